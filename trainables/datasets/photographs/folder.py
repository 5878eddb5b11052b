"""A folder of photographs, or of large images with small copies, for super-resolution.

Images are decoded like those of class folders (`trainables.datasets.folder`), but keep their size.
The small images are what networks get, the large ones are what they should return.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from trainables.config import DataConfig
from trainables.datasets.arrays import (
    SIXTEEN_BITS,
    TITLES,
    Allocate,
    Arrays,
    Decoded,
    Images,
    LeftOut,
    Part,
    Ragged,
    in_memory,
    take_rows,
)
from trainables.datasets.folder import (
    FolderFindings,
    common_mode,
    describe_files,
    describe_range,
    find_dark,
    find_layout,
    find_value_range,
    list_left_out,
    list_unreadable,
)
from trainables.datasets.images import ValueRange, decode_telling, header
from trainables.datasets.layout import layout_error
from trainables.datasets.photographs.layout import (
    FORMS,
    PhotographLayout,
    photograph_layout_of,
    why_super_resolution,
)
from trainables.datasets.photographs.reducing import LEAST_SIDE, cut_to_multiple, reduce
from trainables.errors import DataError, counted, printable
from trainables.memory import free_memory, gigabytes
from trainables.processors import processors
from trainables.progress import Advance, step

EachPath = Callable[[Callable[[Path], Any], list[Path]], Iterable[Any]]
"""A function like `map` for functions of paths."""


@dataclass
class PhotographFindings(FolderFindings):
    """The findings on photographs, and on those that do not suit the scale."""

    unsuited: dict[Path, str] = field(default_factory=dict)
    """The reason why an image cannot be used at this scale, for each of them."""


def recognise(root: Path) -> str:
    """Return the reason to read a folder as photographs; empty if it is not meant for this task."""
    return why_super_resolution(root)


def find(config: DataConfig) -> PhotographLayout:
    """Find the photographs of the folder that `config.root` names.

    Raises:
        DataError: the folder is missing, unreadable or has no images.
    """
    return find_layout(config, partial(photograph_layout_of, skip_bad=config.skip_bad), FORMS)


def load(
    config: DataConfig, *, download: bool, layout: PhotographLayout, allocate: Allocate = in_memory
) -> Decoded:
    """Decode every photograph that `find` found; all problems are in one `DataError`.

    The images of the result are the small ones, its targets the large ones, whose sides are
    multiples of `config.scale`.
    """
    findings, problems, value_range = PhotographFindings(), list(layout.problems), None
    # Images that Pillow warns of are read anyway, or reported as errors with the file's name.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(processors()) as pool:
        with step("reading the headers of photographs"):
            _read_headers(layout, findings, config.scale, pool.map)
        try:
            value_range = find_value_range(layout, findings.headers, pool.map)
        except DataError as error:
            problems.append(str(error))
        problems += _list_unsuited(layout, findings, config)
        if problems:
            raise layout_error(problems)
        _require_room(layout, findings, config.scale)
        with step("decoding photographs", len(layout.paths)) as advance:
            decoder = _PhotographDecoder(
                layout, findings, config.scale, value_range or SIXTEEN_BITS, advance
            )
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
    parts = {title: _part(layout, findings, title, *arrays[title]) for title in layout.parts}
    return Decoded(
        (),
        parts["train"],
        parts.get("test"),
        len(findings.errors) + len(findings.unsuited),
        parts.get("val"),
        value_range,
        (
            *describe_range(parts.values(), findings.headers.values(), value_range),
            *describe_files(layout, findings, None),
            *_describe_sizes(layout, parts.values(), config),
        ),
        tuple(_list_left_out(layout, findings)),
    )


def _read_headers(
    layout: PhotographLayout, findings: PhotographFindings, scale: int, each: EachPath
) -> None:
    """Read the headers of all images, and find those whose sizes do not suit the scale."""
    paths = layout.paths
    headers = zip(paths, each(header, paths), strict=True)
    findings.headers = {path: image_header for path, image_header in headers if image_header}
    small = {}
    if layout.small:
        small = dict(zip(paths, each(header, [layout.small[path] for path in paths]), strict=True))
    for path, image_header in findings.headers.items():
        size = tuple(side // scale for side in image_header.size)
        if min(size) < LEAST_SIDE:
            findings.unsuited[path] = "too small"
        elif (copy := small.get(path)) is not None and copy.size != size:
            findings.unsuited[path] = "copy of another size"


def _list_unsuited(
    layout: PhotographLayout, findings: PhotographFindings, config: DataConfig
) -> list[str]:
    """Return a problem for each reason why images do not suit the scale; none if left out."""
    if config.skip_bad:
        return []
    by_reason: dict[str, list[Path]] = {}
    for path, reason in findings.unsuited.items():
        by_reason.setdefault(reason, []).append(path)
    lines = []
    for reason, paths in by_reason.items():
        width, height = findings.headers[min(paths)].size
        if reason == "too small":
            least = LEAST_SIDE * config.scale
            lines.append(
                f"{counted(len(paths), 'photograph')} {'is' if len(paths) == 1 else 'are'} too "
                f"small: the shorter side must have at least {least} pixels for data.scale "
                f"{config.scale} ({layout.first(paths)}: {width} x {height}). Remove them, or "
                "leave them out with --skip-bad."
            )
            continue
        copy = header(layout.small[min(paths)])
        small_size = "unreadable" if copy is None else f"{copy.size[0]} x {copy.size[1]}"
        have = "has not" if len(paths) == 1 else "have not"
        lines.append(
            f"{counted(len(paths), 'small copy', 'small copies')} {have} 1/{config.scale} of the "
            f"size of the large image ({layout.first(paths)}: {width} x {height} and "
            f"{small_size}). Set the scale with --set data.scale=N (2, 3 or 4)."
        )
    return lines


def _require_room(layout: PhotographLayout, findings: PhotographFindings, scale: int) -> None:
    """Check that all images fit into memory.

    Raises:
        DataError: they do not fit.
    """
    headers = list(findings.headers.values())
    channels = 1 if common_mode(headers) == "L" else 3
    pixels = sum(width * height for width, height in (each.size for each in headers))
    needed = int(channels * pixels * (1 + 1 / scale**2))
    if (free := free_memory()) is not None and needed > free:
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
        scale: int,
        value_range: ValueRange,
        advance: Advance,
    ) -> None:
        self.layout, self.findings, self.scale, self.advance = layout, findings, scale, advance
        self.value_range, self.mode = value_range, common_mode(findings.headers.values())

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
        small = _empty([(*size, channels) for size in sizes], partial(allocate, title))
        large = _empty(
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
                copy, _ = decode_telling(self.layout.small[path], None, self.mode, self.value_range)
                small[...] = _fitting(copy, small)
            else:
                small[...] = reduce(large, self.scale)
        except DataError as error:
            self.findings.errors[path] = error
            return
        self.findings.note(path, pixels, was_transparent=was_transparent)


def _fitting(pixels: Images, place: Images) -> Images:
    """Return pixels that have the shape of their place.

    Raises:
        DataError: they have another shape than the file's header says.
    """
    if pixels.shape != place.shape:
        raise DataError("the image is damaged or cut off")
    return pixels


def _empty(
    shapes: Sequence[tuple[int, ...]], allocate: Callable[[tuple[int, ...]], Images]
) -> Arrays:
    """Allocate arrays of these shapes: one array, or `Ragged` if the shapes differ."""
    if len(set(shapes)) == 1:
        return allocate((len(shapes), *shapes[0]))
    sizes = np.array(shapes, np.int64)
    return Ragged(allocate((int(sizes.prod(axis=1).sum()),)), sizes)


def _part(
    layout: PhotographLayout, findings: PhotographFindings, title: str, small: Arrays, large: Arrays
) -> Part:
    """Return a part without the images that cannot be used.

    Raises:
        DataError: no image of the part can be used.
    """
    paths, unusable = (
        [path for _, path in layout.parts[title]],
        findings.errors.keys() | findings.unsuited.keys(),
    )
    rows = np.array([row for row, path in enumerate(paths) if path not in unusable], int)
    if not len(rows):
        raise DataError(f"no photograph of the {TITLES[title]} set can be used. Check the files.")
    names = tuple(layout.name(paths[row]) for row in rows.tolist())
    if len(rows) < len(paths):
        small, large = take_rows(small, rows), take_rows(large, rows)
    return Part(_uniform(small), _uniform(large), names)


def _uniform(values: Arrays) -> Arrays:
    """Return one array if `Ragged` arrays have the same shape, because the others were left out."""
    if isinstance(values, Ragged) and (values.shapes == values.shapes[0]).all():
        return np.ascontiguousarray(values.buffer.reshape(values.shape))
    return values


def _describe_sizes(
    layout: PhotographLayout, parts: Iterable[Part], config: DataConfig
) -> Iterator[str]:
    """Yield notes on the small images, and on those that are smaller than a crop."""
    scale = config.scale
    if layout.small:
        yield f"note: the images in LR/ are enlarged {scale} times, and compared with those in HR/."
    else:
        yield (
            f"note: each photograph is reduced to 1/{scale} of its height and width (antialiased "
            "bicubic), enlarged again, and compared with itself."
        )
    side = config.image_size
    if side is None:
        return
    names = [
        name
        for part in parts
        for name, image in zip(part.names or (), part.each(), strict=False)
        if min(image.shape[:2]) < side
    ]
    if names:
        yield (
            f"warning: {counted(len(names), 'small image')} "
            f"{'is' if len(names) == 1 else 'are'} smaller than the crops of {side} x {side} "
            f"pixels for training, and continued by the edges (first: {printable(names[0])}). "
            "Smaller crops: --set data.image_size=N, a multiple of 4."
        )


def _list_left_out(layout: PhotographLayout, findings: PhotographFindings) -> Iterator[LeftOut]:
    """Yield the images that cannot be used, each with the reason."""
    yield from list_left_out(layout, findings)
    for path, reason in sorted(findings.unsuited.items()):
        yield LeftOut(printable(layout.name(path)), reason)
