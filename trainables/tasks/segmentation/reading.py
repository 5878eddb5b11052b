"""A folder of images with masks, each with the class of every pixel.

Images are decoded like those of class folders (`trainables.datasets.folder`), but keep their size.
"""

import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
    EachPath,
    FolderFindings,
    common_mode,
    describe_files,
    describe_range,
    find_dark,
    find_layout,
    find_value_range,
    usable_part,
)
from trainables.datasets.images import Header, ValueRange, decode_telling, header
from trainables.datasets.layout import layout_error
from trainables.datasets.splits import Labels
from trainables.errors import DataError, counted, printable
from trainables.machine import free_memory, gigabytes, processors
from trainables.progress import Advance, step
from trainables.tasks.segmentation.formats.coco import draw
from trainables.tasks.segmentation.formats.decoding import (
    BadMask,
    Mask,
    MaskForm,
    count_values,
    form_of,
    is_black_and_white,
    read_mask,
)
from trainables.tasks.segmentation.formats.layout import (
    FORMS,
    MaskLayout,
    mask_layout_of,
    why_segmentation,
)
from trainables.tasks.segmentation.values import IGNORED

BINARY = ("background", "foreground")
SPARSE = 0.5
"""Without names, at least this share of the class numbers up to the largest must occur."""
MANY_CLASSES = 64
"""Without names, more class numbers are an error: they are probably levels of grey."""
SINGLE = "Remove such images with their masks, or leave them out with --skip-bad."
MAX_NUMBERS = 8
"""The maximum number of class numbers in a message."""


@dataclass
class MaskFindings(FolderFindings):
    """The findings on images, and those on their masks, by the image's path."""

    mask_headers: dict[Path, Header] = field(default_factory=dict)
    bad_masks: dict[Path, DataError] = field(default_factory=dict)
    present: dict[Path, NDArray[np.bool_]] = field(default_factory=dict)
    """The values that occur in each mask, (256,)."""

    @property
    def values(self) -> NDArray[np.bool_]:
        """The values that occur in any mask, (256,)."""
        values: NDArray[np.bool_] = np.logical_or.reduce(
            [np.zeros(256, bool), *self.present.values()]
        )
        return values

    @property
    def unusable(self) -> set[Path]:
        """The images that cannot be used, or whose masks cannot."""
        return self.errors.keys() | self.bad_masks.keys()


def recognise(root: Path) -> str:
    """Return the reason to read a folder as images with masks; empty if it is not one."""
    return why_segmentation(root)


def find(config: DataConfig) -> MaskLayout:
    """Find the images and masks of the folder that `config.root` names.

    Raises:
        DataError: the folder is missing, unreadable, ambiguous or has no masks.
    """
    return find_layout(config, partial(mask_layout_of, skip_bad=config.skip_bad), FORMS)


def load(
    config: DataConfig, *, download: bool, layout: MaskLayout, allocate: Allocate = in_memory
) -> Decoded:
    """Decode every image and mask that `find` found; all problems are in one `DataError`."""
    findings, problems = MaskFindings(), list(layout.problems)
    value_range, form = None, MaskForm("", layout.table)
    # Images that Pillow warns of are read anyway, or reported as errors with the file's name.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(processors()) as pool:
        with step("reading the headers of images and masks"):
            _read_headers(layout, findings, pool.map)
        try:
            value_range = find_value_range(layout, findings.headers, pool.map)
            form = form_of(findings.mask_headers.values(), layout.table)
        except DataError as error:
            raise layout_error([*problems, str(error)]) from error
        require_room(findings.headers.values())
        with step("decoding images and masks", len(layout.paths)) as advance:
            decoder = _Decoder(layout, findings, form, value_range or SIXTEEN_BITS, advance)
            arrays = {
                title: decoder.decode_part([path for _, path in members], title, allocate, pool.map)
                for title, members in layout.parts.items()
            }
    classes, more = _name_classes(layout, findings, form)
    problems += [*find_dark(layout, findings), *_list_bad(layout, findings, config), *more]
    if problems:
        raise layout_error(problems)
    if _is_binary(layout, findings):
        for _, masks in arrays.values():
            _whiten(masks)
    parts = {
        title: usable_part(layout, findings.unusable, title, *arrays[title])
        for title in layout.parts
    }
    return Decoded(
        classes,
        parts["train"],
        parts.get("test"),
        len(findings.unusable),
        parts.get("val"),
        value_range,
        (
            *describe_range(parts.values(), findings.headers.values(), value_range),
            *describe_files(layout, findings, None),
            *_describe_masks(layout, findings, form, classes, parts["train"]),
        ),
        tuple(_list_left_out(layout, findings)),
        _group_numbers(layout, findings),
    )


def _read_headers(layout: MaskLayout, findings: MaskFindings, each: EachPath) -> None:
    """Read the headers of images and masks; those of unreadable images are left out."""
    paths = layout.paths
    headers = zip(paths, each(header, paths), strict=True)
    findings.headers = {path: image_header for path, image_header in headers if image_header}
    if layout.masks:
        headers = zip(paths, each(header, [layout.masks[path] for path in paths]), strict=True)
        findings.mask_headers = {path: mask_header for path, mask_header in headers if mask_header}


def require_room(headers: Iterable[Header]) -> None:
    """Check that images with these headers, and their masks, fit into memory.

    Raises:
        DataError: they do not fit.
    """
    each = list(headers)
    channels = (1 if common_mode(each) == "L" else 3) + 1
    needed = channels * sum(width * height for width, height in (image.size for image in each))
    if needed > (free := free_memory()):
        raise DataError(
            f"loading {counted(len(each), 'image')} with masks needs {gigabytes(needed)} of "
            f"memory, but only {gigabytes(free)} are free. Use fewer or smaller images, or a "
            "machine with more memory."
        )


class _Decoder:
    """Decodes images and their masks into arrays."""

    def __init__(
        self,
        layout: MaskLayout,
        findings: MaskFindings,
        form: MaskForm,
        value_range: ValueRange,
        advance: Advance,
    ) -> None:
        self.layout, self.findings, self.form, self.advance = layout, findings, form, advance
        self.value_range, self.mode = value_range, common_mode(findings.headers.values())

    def decode_part(
        self, paths: list[Path], title: str, allocate: Allocate, each: EachPath
    ) -> tuple[Arrays, Arrays]:
        """Return the images of a part and their masks, each an array or `Ragged`.

        An image that cannot be used, or whose mask cannot, is not filled in.
        """
        channels = 1 if self.mode == "L" else 3
        headers = [self.findings.headers.get(path) for path in paths]
        sizes = [image_header.size[::-1] if image_header else (0, 0) for image_header in headers]
        images = allocate_each([(*size, channels) for size in sizes], partial(allocate, title))
        masks = allocate_each(sizes, partial(in_memory, title))
        rows = {path: row for row, path in enumerate(paths)}

        def decode(path: Path) -> None:
            self.advance()
            self._decode(path, images[rows[path]], masks[rows[path]])

        list(each(decode, paths))
        return images, masks

    def _decode(self, path: Path, image: Images, mask: Mask) -> None:
        try:
            pixels, was_transparent = decode_telling(path, None, self.mode, self.value_range)
            if pixels.shape != image.shape:
                raise DataError("the image is damaged or cut off")
            image[...] = pixels
        except DataError as error:
            self.findings.errors[path] = error
            return
        self.findings.note(path, pixels, was_transparent=was_transparent)
        try:
            numbers = self._mask_of(path)
            if numbers.shape != mask.shape:
                raise BadMask(
                    ("has another size than its image", "have another size than their images"),
                    f"{numbers.shape[1]} x {numbers.shape[0]} instead of "
                    f"{mask.shape[1]} x {mask.shape[0]}",
                    "Correct the size, or leave out such images with --skip-bad.",
                    is_single=True,
                )
            mask[...] = numbers
        except DataError as error:
            self.findings.bad_masks[path] = error
            return
        self.findings.present[path] = count_values(mask) > 0

    def _mask_of(self, path: Path) -> Mask:
        if self.layout.drawings:
            return draw(self.layout.drawings[path])
        return read_mask(self.layout.masks[path], self.form)


# Classes


def _is_binary(layout: MaskLayout, findings: MaskFindings) -> bool:
    """True if the masks have only the values 0 and 255, which is then foreground."""
    modes = (mask_header.mode for mask_header in findings.mask_headers.values())
    return not layout.drawings and is_black_and_white(findings.values, modes)


def _whiten(masks: Arrays) -> None:
    """Replace 255 by 1, the number of the foreground; the masks are changed."""
    values = masks.buffer if isinstance(masks, Ragged) else masks
    np.minimum(values, 1, out=values)


def _name_classes(
    layout: MaskLayout, findings: MaskFindings, form: MaskForm
) -> tuple[tuple[str, ...], list[str]]:
    """Return the names of the classes, and problems with their numbers."""
    if layout.drawings:
        return layout.drawn_classes, []
    numbers = np.flatnonzero(findings.values[:IGNORED]).tolist()
    count = 2 if _is_binary(layout, findings) else max(numbers, default=0) + 1
    if problem := _mixed_black_and_white(layout, findings):
        return (), [problem]
    if layout.table is not None:
        names = layout.table.names
        if count <= len(names):
            return names, []
        paths = [
            path for path, present in findings.present.items() if present[len(names) : 255].any()
        ]
        masks = [layout.masks[path] for path in paths]
        return names, [
            f"{_have(masks, 'mask')} class numbers above {len(names) - 1}, because "
            f"{layout.table.source!r} names {counted(len(names), 'class', 'classes')} "
            f"({layout.first(masks)}: {count - 1}). Add names, or correct the masks."
        ]
    if count > 2 and (len(numbers) < SPARSE * count or len(numbers) > MANY_CLASSES):
        some = ", ".join(map(str, numbers[:MAX_NUMBERS]))
        more = ", ..." if len(numbers) > MAX_NUMBERS else ""
        return (), [
            f"the masks have {len(numbers)} of the class numbers 0 to {count - 1}: {some}{more}. "
            "These are probably levels of grey. Number the classes from 0 without gaps (255 is "
            "ignored), or put a file 'classes.txt' into the folder, with the name of a class in "
            "each line."
        ]
    return (BINARY if count <= 2 else tuple(f"class {number}" for number in range(count))), []


def _mixed_black_and_white(layout: MaskLayout, findings: MaskFindings) -> str:
    """Return a problem if only some masks are black and white; empty if there is none."""
    headers = findings.mask_headers.items()
    paths = [layout.masks[path] for path, mask_header in headers if mask_header.mode == "1"]
    if not paths or _is_binary(layout, findings) or not findings.values.any():
        return ""
    if len(paths) == len(findings.mask_headers):  # all of them are black
        return ""
    return (
        f"{counted(len(paths), 'mask')} {'is' if len(paths) == 1 else 'are'} black and white "
        f"({layout.first(paths)}), but others have class numbers. Convert all masks to 8-bit PNG "
        "files with class numbers."
    )


def _describe_masks(
    layout: MaskLayout,
    findings: MaskFindings,
    form: MaskForm,
    classes: tuple[str, ...],
    train: Part,
) -> list[str]:
    """Return notes on how masks were read, and a warning on classes without training pixels."""
    counts = np.zeros(256, np.int64)
    for mask in train.targets:
        counts += count_values(mask)
    lines = [f"note: masks are read as {_reading(layout, findings, form)}."]
    if counts[IGNORED]:
        share = 100 * counts[IGNORED] / counts.sum()
        lines.append(f"note: {share:.3g} % of the training pixels have the value 255: ignored.")
    absent = [name for name, count in zip(classes, counts, strict=False) if not count]
    if absent:
        first = ", ".join(repr(printable(name)) for name in absent[:3])
        lines.append(
            f"warning: {counted(len(absent), 'class has', 'classes have')} no pixel in the "
            f"training masks (first: {first})."
        )
    return lines


def _reading(layout: MaskLayout, findings: MaskFindings, form: MaskForm) -> str:
    """Describe how the values of the masks are read, in a clause."""
    if layout.drawings:
        return "shapes; later shapes cover earlier ones, and pixels without a shape are background"
    if _is_binary(layout, findings):
        return "background (0) and foreground (255)"
    if form.is_instances:
        return (
            "background (0) and foreground (all other numbers), because they have 16 bits and "
            "probably number instances; put a file 'classes.txt' into the folder if they are "
            "class numbers"
        )
    if form.uses_colours and form.table is not None:
        return f"the colours of the classes in {form.table.source!r}"
    modes = {mask_header.mode for mask_header in findings.mask_headers.values()}
    return "class numbers" + (", also those with a palette" if "P" in modes else "")


# Problems


def _have(paths: list[Path], noun: str) -> str:
    return f"{counted(len(paths), noun)} {'has' if len(paths) == 1 else 'have'}"


def _list_bad(layout: MaskLayout, findings: MaskFindings, config: DataConfig) -> list[str]:
    """Return a line for each kind of problem with images or masks.

    With `skip_bad`, those that concern single files are not problems.
    """
    by_reason: dict[str, list[Path]] = {}
    for path, error in sorted(findings.errors.items()):
        by_reason.setdefault(str(error), []).append(path)
    lines = [
        f"{counted(len(paths), 'image')} cannot be read: {reason} ({layout.first(paths)}). {SINGLE}"
        for reason, paths in by_reason.items()
        if not config.skip_bad
    ]
    by_mask_reason: dict[tuple[str, str], dict[Path, BadMask]] = {}
    for path, error in sorted(findings.bad_masks.items()):
        bad_mask = error if isinstance(error, BadMask) else _unreadable(error)
        if not (config.skip_bad and bad_mask.is_single):
            by_mask_reason.setdefault(bad_mask.problem, {})[path] = bad_mask
    return lines + [
        _describe_bad_masks(layout, list(bad_masks), next(iter(bad_masks.values())))
        for bad_masks in by_mask_reason.values()
    ]


def _unreadable(error: DataError) -> BadMask:
    return BadMask((f"cannot be read: {error}",) * 2, "", SINGLE, is_single=True)


def _describe_bad_masks(layout: MaskLayout, paths: list[Path], first: BadMask) -> str:
    """Return a line on masks with the same problem, which are those of these images."""
    masks = [layout.masks.get(path, path) for path in paths]
    detail = f": {first.detail}" if first.detail else ""
    return (
        f"{counted(len(masks), 'mask')} {first.problem[len(masks) > 1]} "
        f"({layout.first(masks)}{detail}). {first.remedy}"
    )


def _list_left_out(layout: MaskLayout, findings: MaskFindings) -> Iterator[LeftOut]:
    """Yield the images that cannot be used, each with the reason."""
    for path in sorted(findings.unusable):
        error = findings.errors.get(path)
        reason = f"cannot be read: {error}" if error else f"its mask: {findings.bad_masks[path]}"
        yield LeftOut(printable(layout.name(path)), reason)


def _group_numbers(layout: MaskLayout, findings: MaskFindings) -> Labels | None:
    """Return the number of each image's group, int64 (images,); None if there are no groups."""
    if not layout.groups:
        return None
    paths = [path for path in layout.paths if path not in findings.unusable]
    names = [layout.groups.get(path, path) for path in paths]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.int64)
