"""A folder of photographs, or of large images with small copies, for super-resolution.

Images are decoded like those of class folders (`trainables.datasets.folder`), but keep their size.
The small images are what networks get, the large ones are what they should return.
"""

import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from trainables.config import SCALE, SCALES, DataConfig
from trainables.datasets.arrays import (
    SIXTEEN_BITS,
    Allocate,
    Arrays,
    Decoded,
    Images,
    LeftOut,
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
    list_left_out,
    list_unreadable,
    usable_part,
)
from trainables.datasets.images import Header, ValueRange, decode_telling, header
from trainables.datasets.layout import layout_error
from trainables.errors import DataError, counted, printable
from trainables.machine import free_memory, gigabytes, processors
from trainables.progress import Advance, step
from trainables.tasks.super_resolution.layout import (
    FORMS,
    PhotographLayout,
    photograph_layout_of,
    why_super_resolution,
)
from trainables.tasks.super_resolution.reducing import LEAST_SIDE, cut_to_multiple, reduce

TOO_SMALL, WRONG_COPY = "too small", "a copy of another size"


@dataclass
class PhotographFindings(FolderFindings):
    """The findings on photographs, and on those that do not suit the scale."""

    scale: int = SCALE
    """How many times the images are enlarged."""
    small_headers: dict[Path, Header] = field(default_factory=dict)
    """The header of each photograph's small copy, if it has one that can be read."""
    unsuited: dict[Path, str] = field(default_factory=dict)
    """The reason why an image cannot be used at this scale, for each of them."""

    @property
    def unusable(self) -> set[Path]:
        """The photographs that cannot be used."""
        return self.errors.keys() | self.unsuited.keys()


def recognise(root: Path) -> str:
    """Return the reason to read a folder as photographs; empty if it is not meant for this task."""
    return why_super_resolution(root)


def find(config: DataConfig) -> PhotographLayout:
    """Find the photographs of the folder that `config.root` names.

    Raises:
        DataError: the folder is missing, unreadable or has no images.
    """
    read = partial(photograph_layout_of, scale=config.scale, skip_bad=config.skip_bad)
    return find_layout(config, read, FORMS)


def load(
    config: DataConfig, *, download: bool, layout: PhotographLayout, allocate: Allocate = in_memory
) -> Decoded:
    """Decode every photograph that `find` found; all problems are in one `DataError`.

    The images of the result are the small ones, its targets the large ones, whose sides are
    multiples of the scale. That is `config.scale` or, with small copies, the one of these.
    """
    findings, problems, value_range = PhotographFindings(), list(layout.problems), None
    # Images that Pillow warns of are read anyway, or reported as errors with the file's name.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(processors()) as pool:
        with step("reading the headers of photographs"):
            _read_headers(layout, findings, pool.map)
        try:
            findings.scale = _scale_of(layout, findings, config)
            small = {layout.small[path]: each for path, each in findings.small_headers.items()}
            value_range = find_value_range(layout, findings.headers | small, pool.map)
        except DataError as error:
            raise layout_error([*problems, str(error)]) from error
        _find_unsuited(findings)
        problems += [] if config.skip_bad else _list_unsuited(layout, findings)
        if problems:
            raise layout_error(problems)
        _require_room(findings)
        with step("decoding photographs", len(layout.paths)) as advance:
            decoder = _PhotographDecoder(layout, findings, value_range or SIXTEEN_BITS, advance)
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
    return Decoded(
        (),
        parts["train"],
        parts.get("test"),
        len(findings.unusable),
        parts.get("val"),
        value_range,
        (
            *describe_range(parts.values(), findings.headers.values(), value_range),
            *describe_files(layout, findings, None),
            *_describe_sizes(layout, findings),
        ),
        tuple(_list_left_out(layout, findings)),
    )


def _read_headers(layout: PhotographLayout, findings: PhotographFindings, each: EachPath) -> None:
    """Read the headers of all photographs and small copies that can be read."""
    paths = layout.paths
    headers = zip(paths, each(header, paths), strict=True)
    findings.headers = {path: image_header for path, image_header in headers if image_header}
    if layout.small:
        headers = zip(paths, each(header, [layout.small[path] for path in paths]), strict=True)
        findings.small_headers = {
            path: image_header
            for path, image_header in headers
            if image_header and path in findings.headers
        }


def _scale_of(layout: PhotographLayout, findings: PhotographFindings, config: DataConfig) -> int:
    """Return the scale: that of most small copies, else that of the config.

    Raises:
        DataError: the config has another scale than the small copies, or theirs is not allowed.
    """
    ratios = Counter(
        round(findings.headers[path].size[0] / small.size[0])
        for path, small in findings.small_headers.items()
    )
    if not ratios:
        return config.scale
    scale = ratios.most_common(1)[0][0]
    if scale not in SCALES or config.scale not in (SCALE, scale):
        wrong = "must be 2, 3 or 4" if scale not in SCALES else f"is not data.scale {config.scale}"
        raise DataError(
            f"the images in HR/ are {scale} times as large as those in LR/, which {wrong}. "
            + ("Make other copies." if scale not in SCALES else f"Set data.scale={scale}.")
        )
    return scale


def _find_unsuited(findings: PhotographFindings) -> None:
    """Find the photographs whose sizes do not suit the scale."""
    for path, image_header in findings.headers.items():
        size = tuple(side // findings.scale for side in image_header.size)
        small = findings.small_headers.get(path)
        if min(size) < LEAST_SIDE:
            findings.unsuited[path] = TOO_SMALL
        elif small is not None and small.size != size:
            findings.unsuited[path] = WRONG_COPY


def _list_unsuited(layout: PhotographLayout, findings: PhotographFindings) -> list[str]:
    """Return a problem for each reason why photographs do not suit the scale."""
    by_reason: dict[str, list[Path]] = {}
    for path, reason in findings.unsuited.items():
        by_reason.setdefault(reason, []).append(path)
    scale, lines = findings.scale, []
    if paths := by_reason.get(TOO_SMALL):
        width, height = findings.headers[min(paths)].size
        lines.append(
            f"{counted(len(paths), 'photograph is', 'photographs are')} too small: the shorter "
            f"side must have at least {LEAST_SIDE * scale} pixels for data.scale {scale} "
            f"({layout.first(paths)}: {width} x {height}). Remove them, or leave them out with "
            "--skip-bad."
        )
    if paths := by_reason.get(WRONG_COPY):
        width, height = findings.headers[min(paths)].size
        small_width, small_height = findings.small_headers[min(paths)].size
        have = "has not" if len(paths) == 1 else "have not"
        lines.append(
            f"{counted(len(paths), 'small copy', 'small copies')} {have} 1/{scale} of the size of "
            f"the large image, rounded down ({layout.first(paths)}: {width} x {height} and "
            f"{small_width} x {small_height}). Correct them, or leave them out with --skip-bad."
        )
    return lines


def _require_room(findings: PhotographFindings) -> None:
    """Check that all images fit into memory.

    Raises:
        DataError: they do not fit.
    """
    headers = list(findings.headers.values())
    channels = 1 if common_mode(headers) == "L" else 3
    pixels = sum(width * height for width, height in (each.size for each in headers))
    needed = int(channels * pixels * (1 + 1 / findings.scale**2))
    if needed > (free := free_memory()):
        raise DataError(
            f"loading {counted(len(headers), 'photograph')} needs {gigabytes(needed)} of memory, "
            f"but only {gigabytes(free)} are free. Use fewer or smaller photographs, or a machine "
            "with more memory."
        )


class _PhotographDecoder:
    """Decodes large images, and decodes or makes their small copies."""

    def __init__(
        self,
        layout: PhotographLayout,
        findings: PhotographFindings,
        value_range: ValueRange,
        advance: Advance,
    ) -> None:
        self.layout, self.findings, self.advance = layout, findings, advance
        self.scale, self.value_range = findings.scale, value_range
        self.mode = common_mode([*findings.headers.values(), *findings.small_headers.values()])

    def decode_part(
        self, paths: list[Path], title: str, allocate: Allocate, each: EachPath
    ) -> tuple[Arrays, Arrays]:
        """Return the small and the large images of a part, each an array or `Ragged`.

        An image that cannot be used is not filled in.
        """
        channels, scale = 1 if self.mode == "L" else 3, self.scale
        headers = [self.findings.headers.get(path) for path in paths]
        sizes = [
            tuple(side // scale for side in image_header.size[::-1]) if image_header else (0, 0)
            for image_header in headers
        ]
        small = allocate_each([(*size, channels) for size in sizes], partial(allocate, title))
        large = allocate_each(
            [(height * scale, width * scale, channels) for height, width in sizes],
            partial(in_memory, title),
        )
        rows = {path: row for row, path in enumerate(paths)}

        def decode(path: Path) -> None:
            self.advance()
            if path not in self.findings.unsuited:
                self._decode(path, small[rows[path]], large[rows[path]])

        list(each(decode, paths))
        return small, large

    def _decode(self, path: Path, small: Images, large: Images) -> None:
        try:
            pixels, was_transparent = decode_telling(path, None, self.mode, self.value_range)
            large[...] = _fitting(cut_to_multiple(pixels, self.scale), large)
            if self.layout.small:
                small[...] = _fitting(self._copy_of(path), small)
            else:
                small[...] = reduce(large, self.scale)
        except DataError as error:
            self.findings.errors[path] = error
            return
        self.findings.note(path, pixels, was_transparent=was_transparent)

    def _copy_of(self, path: Path) -> Images:
        """Decode the small copy of a photograph.

        Raises:
            DataError: it cannot be decoded; the message names its file.
        """
        copy = self.layout.small[path]
        try:
            return decode_telling(copy, None, self.mode, self.value_range)[0]
        except DataError as error:
            name = printable(self.layout.name(copy))
            raise DataError(f"its small copy {name} cannot be read: {error}") from error


def _fitting(pixels: Images, place: Images) -> Images:
    """Return pixels that have the shape of their place.

    Raises:
        DataError: they have another shape than the file's header says.
    """
    if pixels.shape != place.shape:
        raise DataError("the image is damaged or cut off")
    return pixels


def _describe_sizes(layout: PhotographLayout, findings: PhotographFindings) -> Iterator[str]:
    """Yield a note on the small images, and a warning if some photographs were left out."""
    scale = findings.scale
    if layout.small:
        yield f"note: the images in LR/ are enlarged {scale} times, and compared with those in HR/."
    else:
        yield (
            f"note: each photograph is reduced to 1/{scale} of its height and width (antialiased "
            "bicubic), enlarged again, and compared with itself."
        )
    if findings.unsuited:
        paths = list(findings.unsuited)
        reasons = " or ".join(dict.fromkeys(findings.unsuited.values()))
        yield (
            f"warning: {counted(len(paths), 'photograph is', 'photographs are')} left out: "
            f"{reasons} ({layout.first(paths)})."
        )


def _list_left_out(layout: PhotographLayout, findings: PhotographFindings) -> Iterator[LeftOut]:
    """Yield the images that cannot be used, each with the reason."""
    yield from list_left_out(layout, findings)
    for path, reason in sorted(findings.unsuited.items()):
        yield LeftOut(printable(layout.name(path)), reason)
