"""A folder of images with boxes around objects, for detection.

Images are decoded like those of class folders (`trainables.datasets.folder`), but keep their ratio
of sides: the longer side is resized to `data.image_size`, or reduced to `DEFAULT_SIDE` without it.
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from trainables.config import DataConfig
from trainables.datasets.arrays import (
    SIXTEEN_BITS,
    Allocate,
    Arrays,
    Decoded,
    Images,
    LeftOut,
    Part,
    Ragged,
    allocate_each,
    in_memory,
)
from trainables.datasets.folder import (
    FEW_SHARE,
    EachPath,
    FolderFindings,
    common_mode,
    describe_files,
    describe_range,
    find_dark,
    find_layout,
    find_value_range,
    list_left_out,
    list_unreadable,
    usable_part,
)
from trainables.datasets.images import Header, ValueRange, decode_telling, header
from trainables.datasets.layout import are, hint_at_default, layout_error
from trainables.datasets.walk import Folder, walk
from trainables.errors import DataError, counted, printable
from trainables.machine import free_memory, gigabytes, processors
from trainables.progress import Advance, step
from trainables.tasks.detection.formats.coco import coco_files, take_coco, why_coco
from trainables.tasks.detection.formats.layout import FORMS, BoxLayout
from trainables.tasks.detection.formats.voc import is_voc, take_voc, voc_files, why_voc
from trainables.tasks.detection.formats.yolo import find_description, take_yolo, why_yolo
from trainables.tasks.detection.predictor import DEFAULT_SIDE, size_within
from trainables.tasks.detection.values import (
    COPY,
    CROWD,
    OVERLAP,
    Boxes,
    clean_boxes,
    no_boxes,
)

OTHER_SIZE = "its annotations state another size"


@dataclass
class BoxFindings(FolderFindings):
    """The findings on images, and those on their boxes."""

    sizes: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """The (width, height) to which each image is resized."""
    boxes: dict[Path, Boxes] = field(default_factory=dict)
    """The boxes of each image, in pixels of the resized one."""
    other_sizes: list[Path] = field(default_factory=list)
    """The images whose annotations state another size than the file has."""
    clipped: Counter[Path] = field(default_factory=Counter)
    """The number of boxes that were clipped, by image; so are the next numbers."""
    invalid: Counter[Path] = field(default_factory=Counter)
    doubled: Counter[Path] = field(default_factory=Counter)
    overlapping: Counter[Path] = field(default_factory=Counter)

    @property
    def unusable(self) -> set[Path]:
        """The images that cannot be used."""
        return {*self.errors, *self.other_sizes}


def recognise(root: Path) -> str:
    """Return the reason to read a folder as images with boxes; empty if it is not one.

    Only names are read, and few annotations are opened.
    """
    try:
        top_folder = walk(root, root.resolve())
        return why_coco(top_folder) or why_voc(top_folder) or why_yolo(top_folder)
    except OSError:  # the reader reports it
        return ""


def find(config: DataConfig) -> BoxLayout:
    """Find the images and boxes of the folder that `config.root` names.

    Raises:
        DataError: the folder is missing, unreadable, ambiguous or has no boxes.
    """
    return find_layout(config, partial(box_layout_of, skip_bad=config.skip_bad), FORMS)


def box_layout_of(root: Path, *, skip_bad: bool = False) -> BoxLayout:
    """Find the images and boxes below a folder.

    Args:
        root: the folder.
        skip_bad: True to leave out images without usable annotations; otherwise they are problems.

    Raises:
        DataError: there are no annotations, or it is ambiguous which image they belong to.
        OSError: a folder cannot be read.
    """
    layout, top_folder = BoxLayout(root, skip_bad=skip_bad), walk(root, root.resolve())
    layout.reasons |= top_folder.not_read
    if files := coco_files(top_folder):
        take_coco(layout, top_folder, files)
    elif any(map(is_voc, voc_files(top_folder))):
        take_voc(layout, top_folder)
    elif why_yolo(top_folder) or _is_described(top_folder):
        take_yolo(layout, top_folder)
    else:
        raise layout.refuse(
            f"there are no images with boxes in {printable(str(root))!r}. Expected {FORMS}. "
            + hint_at_default()
        )
    return layout


def _is_described(top_folder: Folder) -> bool:
    """True if a folder has label files, or a description of them, that may be damaged."""
    names = {folder.name.lower() for folder in top_folder.folders}
    has_labels = (
        any(path.parent.name == "labels" for path in top_folder.not_read) or "labels" in names
    )
    return has_labels or find_description(top_folder) is not None


def load(
    config: DataConfig, *, download: bool, layout: BoxLayout, allocate: Allocate = in_memory
) -> Decoded:
    """Decode every image that `find` found, with its boxes; all problems are in one `DataError`."""
    findings, problems, value_range = BoxFindings(), list(layout.problems), None
    # Images that Pillow warns of are read anyway, or reported as errors with the file's name.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(processors()) as pool:
        with step("reading the headers of images"):
            headers = zip(layout.paths, pool.map(header, layout.paths), strict=True)
            findings.headers = {path: each for path, each in headers if each}
        try:
            value_range = find_value_range(layout, findings.headers, pool.map)
        except DataError as error:
            raise layout_error([*problems, str(error)]) from error
        _fit_boxes(layout, findings, config.image_size)
        problems += [] if config.skip_bad else _list_other_sizes(layout, findings)
        if problems:
            raise layout_error(problems)
        _require_room(findings)
        with step("decoding images", len(layout.paths)) as advance:
            decoder = _BoxDecoder(findings, value_range or SIXTEEN_BITS, advance)
            arrays = {
                title: decoder.decode_part([path for _, path in members], title, allocate, pool.map)
                for title, members in layout.parts.items()
            }
    problems = [
        *find_dark(layout, findings),
        *list_unreadable(layout, findings, are_skipped=config.skip_bad),
    ]
    if problems:
        raise layout_error(problems)
    parts = {
        title: usable_part(layout, findings.unusable, title, *arrays[title])
        for title in layout.parts
    }
    _require_boxes(parts["train"], findings)
    return Decoded(
        layout.classes,
        parts["train"],
        parts.get("test"),
        len(findings.unusable),
        parts.get("val"),
        value_range,
        (
            *describe_range(parts.values(), findings.headers.values(), value_range),
            *describe_files(layout, findings, None),
            *_describe_boxes(layout, findings),
            *_describe_sizes(findings, config),
        ),
        tuple(_list_left_out(layout, findings)),
    )


def _fit_boxes(layout: BoxLayout, findings: BoxFindings, side: int | None) -> None:
    """Check the boxes of all images with headers, and resize them."""
    for path, image_header in findings.headers.items():
        width, height = image_header.size
        if layout.stated_sizes.get(path, image_header.size) != image_header.size:
            findings.other_sizes.append(path)
            continue
        raw = layout.raw_boxes.get(path, no_boxes()).astype(float)
        if layout.are_shares:
            raw[:, :4] *= (width, height, width, height)
        cleaned = clean_boxes(raw, image_header.size)
        for counts, count in (
            (findings.clipped, cleaned.clipped),
            (findings.invalid, cleaned.invalid),
            (findings.doubled, cleaned.doubled),
            (findings.overlapping, cleaned.overlapping),
        ):
            if count:
                counts[path] = count
        size = size_within(width, height, side)
        factors = size[0] / width, size[1] / height
        cleaned.boxes[:, :4] *= (*factors, *factors)
        findings.sizes[path], findings.boxes[path] = size, cleaned.boxes.astype(np.float32)


def _list_other_sizes(layout: BoxLayout, findings: BoxFindings) -> list[str]:
    """Return a problem if annotations state other sizes than those of the images."""
    paths = findings.other_sizes
    if not paths:
        return []
    width, height = findings.headers[min(paths)].size
    is_single = len(paths) == 1
    stated_width, stated_height = layout.stated_sizes[min(paths)]
    return [
        f"the annotations of {counted(len(paths), 'image')} state another size than "
        f"{'it has' if is_single else 'they have'}, when upright ({layout.first(paths)}: "
        f"{stated_width} x {stated_height} instead of {width} x {height}), so "
        f"{'its' if is_single else 'their'} boxes may be elsewhere. Correct them, or leave out "
        "such images with --skip-bad."
    ]


def _require_room(findings: BoxFindings) -> None:
    """Check that all images, resized, fit into memory.

    Raises:
        DataError: they do not fit.
    """
    channels = 1 if common_mode(findings.headers.values()) == "L" else 3
    needed = channels * sum(width * height for width, height in findings.sizes.values())
    if needed > (free := free_memory()):
        raise DataError(
            f"loading {counted(len(findings.sizes), 'image')} needs {gigabytes(needed)} of memory, "
            f"but only {gigabytes(free)} are free. Use smaller images (--set data.image_size=N), "
            "fewer images, or a machine with more memory."
        )


def _require_boxes(train: Part, findings: BoxFindings) -> None:
    """Check that there are boxes to train on.

    Raises:
        DataError: there are none.
    """
    if not any((boxes[:, CROWD] == 0).any() for boxes in train.targets):
        invalid = findings.invalid.total()
        cause = f": {counted(invalid, 'box is', 'boxes are')} invalid" if invalid else ""
        raise DataError(
            f"no training image has a box that can be used{cause}. Check the annotations."
        )


class _BoxDecoder:
    """Decodes images into arrays, and collects their boxes."""

    def __init__(self, findings: BoxFindings, value_range: ValueRange, advance: Advance) -> None:
        self.findings, self.value_range, self.advance = findings, value_range, advance
        self.mode = common_mode(findings.headers.values())

    def decode_part(
        self, paths: list[Path], title: str, allocate: Allocate, each: EachPath
    ) -> tuple[Arrays, Arrays]:
        """Return the images of a part, an array or `Ragged`, and their boxes.

        An image that cannot be used is not filled in.
        """
        channels = 1 if self.mode == "L" else 3
        sizes = [self.findings.sizes.get(path, (0, 0))[::-1] for path in paths]
        images = allocate_each([(*size, channels) for size in sizes], partial(allocate, title))
        rows = {path: row for row, path in enumerate(paths)}

        def decode(path: Path) -> None:
            self.advance()
            if path in self.findings.other_sizes:
                return
            self._decode(path, images[rows[path]])

        list(each(decode, paths))
        return images, Ragged.of(self.findings.boxes.get(path, no_boxes()) for path in paths)

    def _decode(self, path: Path, image: Images) -> None:
        size = self.findings.sizes.get(path)
        try:
            pixels, was_transparent = decode_telling(path, size, self.mode, self.value_range)
            if pixels.shape != image.shape:
                raise DataError("the image is damaged or cut off")
        except DataError as error:
            self.findings.errors[path] = error
            return
        image[...] = pixels
        self.findings.note(path, pixels, was_transparent=was_transparent)


# Notes


def _describe_boxes(layout: BoxLayout, findings: BoxFindings) -> Iterator[str]:
    """Yield a note on the form of boxes, and a line for each kind of box that was changed."""
    usable = {path: findings.boxes[path] for path in layout.paths if path not in findings.unusable}
    empty = [path for path, boxes in usable.items() if not len(boxes)]
    rest = (
        f"; {counted(len(empty), 'image has', 'images have')} no object ({layout.first(empty)})"
        if empty
        else ""
    )
    yield f"note: boxes are read from {layout.form}{rest}."
    if layout.are_shares and (bare := [path for path in empty if path not in layout.sources]):
        level = "note" if len(bare) <= FEW_SHARE * len(usable) else "warning"
        yield (
            f"{level}: {counted(len(bare), 'image has', 'images have')} no label file "
            f"({layout.first(bare)}); each is taken for an image without objects."
        )
    if crowds := sum(int(boxes[:, CROWD].sum()) for boxes in usable.values()):
        objects = "an object" if crowds == 1 else "objects"
        yield (
            f"note: {counted(crowds, 'box is', 'boxes are')} marked as crowd or difficult, and "
            f"neither evaluated nor taught as {objects}."
        )
    for counts, level, singular, plural in (
        (
            findings.clipped,
            "note",
            "box reaches beyond its image and is clipped",
            "boxes reach beyond their images and are clipped",
        ),
        (
            findings.invalid,
            "warning",
            "box is invalid (empty, inverted, not finite or outside its image) and left out",
            "boxes are invalid (empty, inverted, not finite or outside their images) and left out",
        ),
        (
            findings.doubled,
            "warning",
            f"box is a copy of another one (same class, IoU of at least {COPY:g}) and left out",
            f"boxes are copies of others (same class, IoU of at least {COPY:g}) and left out",
        ),
    ):
        if counts:
            text = counted(counts.total(), singular, plural)
            yield f"{level}: {text} ({_first_files(layout, counts)})."
    if pairs := findings.overlapping:
        yield (
            f"warning: {counted(pairs.total(), 'pair')} of boxes of the same class "
            f"{'overlaps' if pairs.total() == 1 else 'overlap'} by more than {OVERLAP:g} "
            f"({_first_files(layout, pairs)}); remove one of each if they are around the same "
            "object."
        )


def _first_files(layout: BoxLayout, images: Iterable[Path]) -> str:
    """Name the first annotation files of images, or the images if all share a file."""
    return layout.first(layout.sources.get(path, path) for path in images)


def _describe_sizes(findings: BoxFindings, config: DataConfig) -> Iterator[str]:
    """Yield a note if images were reduced because the config does not set their size."""
    headers: dict[Path, Header] = findings.headers
    reduced = [path for path, size in findings.sizes.items() if size != headers[path].size]
    if reduced and config.image_size is None:
        yield (
            f"note: {are(reduced, 'image')} reduced to {DEFAULT_SIDE} pixels on the longer side "
            "(--set data.image_size=N for another length)."
        )
    if findings.other_sizes:
        yield (
            f"warning: {are(findings.other_sizes, 'image')} left out, because the annotations "
            "state another size."
        )


def _list_left_out(layout: BoxLayout, findings: BoxFindings) -> Iterator[LeftOut]:
    """Yield the images that cannot be used, each with the reason."""
    yield from list_left_out(layout, findings)
    for path in sorted(findings.other_sizes):
        yield LeftOut(printable(layout.name(path)), OTHER_SIZE)
