"""A folder of images, with one sub-folder for each class.

The classes lie directly under the root, or under `train/`, `val/` and `test/` (see `layout`).
Images keep their own size when they all have one (of at most 224 pixels a side); otherwise they are
resized to 224 x 224, as in the paper, or to `data.image_size`. They stay grey when all of them are
grey. Images of more than 8 bits are scaled by the range of their values, one for the whole data
set, so that brightness still compares between images.
"""

import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainables.config import DataConfig
from trainables.datasets.arrays import (
    SIXTEEN_BITS,
    Allocate,
    Decoded,
    Images,
    LeftOut,
    Part,
    in_memory,
)
from trainables.datasets.images import (
    DEPTHS,
    Header,
    ValueRange,
    decode_telling,
    extremes,
    header,
)
from trainables.datasets.layout import Layout, are, refused
from trainables.datasets.parts import layout_of
from trainables.errors import DataError, did_you_mean, printable
from trainables.memory import require_memory
from trainables.processors import processors

DEFAULT_SIDE = 224
GREY_MODES = {"1", "L", "LA", *DEPTHS}
HALF_OF_16_BITS = 32767
UPPER_QUARTER = 63
"""The brightest value of 16-bit colour images of which 14 or fewer bits are used.

Pillow reads the upper 8 of the 16 bits.
"""
LONG = 8
"""An image that is more times as long as wide is told of where it is made square."""
FEW_LEVELS, NEARLY_ALL = 16, 0.999
"""A warning is given where this share of the pixels lies within so few of the 256 levels."""


@dataclass
class Met:
    """Remarkable files that were met: their headers, and what came of decoding them."""

    headers: dict[Path, Header] = field(default_factory=dict)
    errors: dict[Path, DataError] = field(default_factory=dict)
    transparent: list[Path] = field(default_factory=list)
    blank: list[Path] = field(default_factory=list)
    """Transparent images of which nothing is seen on white."""
    brightest: dict[Path, int] = field(default_factory=dict)
    """The greatest value of each image of which Pillow reads the upper 8 of 16 bits."""

    def note(self, path: Path, pixels: Images, *, was_transparent: bool) -> None:
        """Note what is remarkable about a decoded image."""
        if was_transparent:
            (self.blank if pixels.min() == 255 else self.transparent).append(path)
        if path in self.headers and self.headers[path].upper_bits:
            self.brightest[path] = int(pixels.max())


def load(
    config: DataConfig, *, download: bool, layout: Layout, allocate: Allocate = in_memory
) -> Decoded:
    """Decode every image of the folder.

    What is wrong is refused, all at once; unreadable images are with `skip_bad` left out and named.
    """
    parts, paths, met = layout.parts, layout.paths, Met()
    classes = sorted({name for part in parts.values() for name, _ in part})
    problems, value_range = list(layout.problems), None
    # What Pillow would warn of is read, or is an error with its file's name.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(processors()) as pool:
        found = zip(paths, pool.map(header, paths), strict=True)
        met.headers = {path: each for path, each in found if each}
        try:
            value_range = _value_range(layout, met.headers, pool.map)
        except DataError as error:
            problems.append(str(error))
        size, mode = _common_form(met.headers.values(), config.image_size)
        shape = size[1], size[0], 1 if mode == "L" else 3
        if config.train_limit is None:
            require_memory(len(paths), shape)

        def decode(images: Images, row: int, path: Path) -> None:
            try:
                images[row], was_transparent = decode_telling(
                    path, size, mode, value_range or SIXTEEN_BITS
                )
            except DataError as error:
                met.errors[path] = error
                return
            met.note(path, images[row], was_transparent=was_transparent)

        made = {}
        for title, members in parts.items():
            images = made[title] = allocate(title, (len(members), *shape))
            each = [path for _, path in members]
            list(pool.map(decode, [images] * len(each), range(len(each)), each))
    problems += [*_about_dark(layout, met), *([] if config.skip_bad else _unreadable(layout, met))]
    if problems:
        raise refused(problems)
    whole = {title: _part(made[title], layout, classes, met.errors, title) for title in parts}
    return Decoded(
        tuple(classes),
        whole["train"],
        whole.get("test"),
        len(met.errors),
        val=whole.get("val"),
        value_range=value_range,
        remarks=(
            *_about_range(whole.values(), met.headers.values(), value_range),
            *_about_files(layout, met, size),
        ),
        left_out=tuple(
            LeftOut(printable(layout.name(path)), f"cannot be read: {error}")
            for path, error in sorted(met.errors.items())
        ),
    )


def _part(
    images: Images, layout: Layout, classes: list[str], errors: dict[Path, DataError], title: str
) -> Part:
    """Return a part without the images that could not be read, whose gaps are closed in place."""
    members = layout.parts[title]
    rows = [row for row, (_, path) in enumerate(members) if path not in errors]
    if not rows:
        raise DataError(f"no image of the {title} part can be read.")
    for place, row in enumerate(rows):
        if place != row:
            images[place] = images[row]
    numbers = {name: number for number, name in enumerate(classes)}
    return Part(
        images[: len(rows)] if len(rows) < len(members) else images,
        np.array([numbers[members[row][0]] for row in rows], dtype=np.int64),
        tuple(layout.name(members[row][1]) for row in rows),
    )


def find(config: DataConfig) -> Layout:
    """Find the images of the folder.

    Raises:
        DataError: there are none, or it cannot be told what they are.
    """
    if not config.root:  # Path("") would be the folder in which the command happens to run
        raise DataError("no folder is named (data.root is empty): use --data folder:PATH.")
    root = Path(config.root)
    try:
        if root.is_file():
            raise DataError(
                f"{str(root)!r} is a file (--data folder:PATH). "
                "Unpack it if it is an archive, and give the folder with one sub-folder per class."
            )
        if not root.is_dir():
            raise DataError(
                f"data set folder not found: {str(root)!r} (--data folder:PATH). "
                f"Expected one sub-folder per class.{_beside(root)}"
            )
        return layout_of(root)
    except OSError as error:
        place = printable(str(error.filename or root))
        raise DataError(f"data set folder {place!r} cannot be read ({error.strerror}).") from error


def _beside(root: Path) -> str:
    """Return which folder beside a missing one is meant; empty if none is, or none can be seen."""
    try:
        names = sorted(path.name for path in root.parent.iterdir() if path.is_dir())
    except OSError:
        return ""
    return did_you_mean(root.name, names)


def _common_form(headers: Iterable[Header], wanted: int | None) -> tuple[tuple[int, int], str]:
    """Return the (width, height) and mode that every image is brought to."""
    known = list(headers)
    mode = "L" if known and all(each.mode in GREY_MODES for each in known) else "RGB"
    if wanted is not None:
        return (wanted, wanted), mode
    sizes = {each.size for each in known}
    if len(sizes) == 1 and max(next(iter(sizes))) <= DEFAULT_SIDE:
        return next(iter(sizes)), mode
    return (DEFAULT_SIDE, DEFAULT_SIDE), mode


def _value_range(
    layout: Layout,
    headers: dict[Path, Header],
    each: Callable[[Callable[[Path], ValueRange | None], list[Path]], Iterable[ValueRange | None]],
) -> ValueRange | None:
    """Return the values that are to become 0 and 255, for images of more than 8 bits.

    None if there are no such images.

    Raises:
        DataError: there are several kinds of images, and nothing says how their values compare.
    """
    kinds: dict[str, list[Path]] = {}
    for path, found in headers.items():
        kinds.setdefault(DEPTHS.get(found.mode, "8-bit"), []).append(path)
    deep = [path for kind, paths in kinds.items() if kind != "8-bit" for path in paths]
    if not deep:
        return None
    found_ranges = [found for found in each(extremes, deep) if found is not None]
    if not found_ranges:
        return SIXTEEN_BITS
    low, high = min(low for low, _ in found_ranges), max(high for _, high in found_ranges)
    if set(kinds) == {"8-bit", "16-bit"} and high > HALF_OF_16_BITS:
        return SIXTEEN_BITS  # black and white are the same in both
    if len(kinds) > 1:
        told = " and ".join(
            f"{len(paths):,} {kind} (first: {_name(layout, paths)})"
            for kind, paths in sorted(kinds.items())
        )
        raise DataError(
            f"images of several kinds: {told}. How their brightness compares is not known. "
            "Convert all of them to 8 bits, or to one kind."
        )
    if low == high:
        raise DataError(
            f"every pixel of the {next(iter(kinds))} images is {low:g}: "
            "there is nothing to tell them apart by."
        )
    return low, high


def _about_range(
    parts: Iterable[Part], headers: Iterable[Header], value_range: ValueRange | None
) -> list[str]:
    """Return lines on how images of more than 8 bits were read."""
    if value_range is None:
        return []
    counts = np.zeros(256, np.int64)
    for part in parts:
        for images in part.chunks():
            counts += np.bincount(images.ravel(), minlength=256)
    modes = [each.mode for each in headers]
    deep = [DEPTHS[mode] for mode in modes if mode in DEPTHS]
    lines = [
        f"note: {deep[0]} images: values from {value_range[0]:g} to {value_range[1]:g}, "
        "the range of all images together, become 0 to 255."
        if len(deep) == len(modes)
        else f"note: {are(deep, f'{deep[0]} image')} among {len(modes) - len(deep):,} of 8 bits: "
        "their values from 0 to 65535 become 0 to 255, and the 8-bit ones stay as they are."
    ]
    shares = counts.cumsum() / counts.sum()
    levels = int((shares < (1 + NEARLY_ALL) / 2).sum() - (shares <= (1 - NEARLY_ALL) / 2).sum()) + 1
    if levels <= FEW_LEVELS:
        remedy = (
            "a few outliers stretch the range. Clip them, or convert the images to 8 bits yourself."
        )
        lines.append(
            f"warning: {100 * NEARLY_ALL:g} % of their pixels lie within {levels} "
            f"of the 256 levels: {remedy}"
        )
    return lines


def _about_dark(layout: Layout, met: Met) -> list[str]:
    """Return the problem of 16-bit colour images of which nearly nothing is left."""
    brightest = max(met.brightest.values(), default=255)
    if brightest > UPPER_QUARTER:
        return []
    return [
        f"of the 16-bit colour images (first: {_name(layout, met.brightest)}) the upper 8 bits are "
        f"read, and those reach {brightest} of 255. Convert the images to 8 bits, by their own "
        "range."
    ]


def _about_files(layout: Layout, met: Met, size: tuple[int, int]) -> list[str]:
    """Return lines on images that are not read as they are."""
    lines = []
    if met.transparent:
        lines.append(
            f"note: {are(met.transparent, 'image')} transparent in places, and laid onto white "
            f"(first: {_name(layout, met.transparent)})."
        )
    if met.blank:
        lines.append(
            f"warning: {are(met.blank, 'image')} plain white once laid onto white: white on "
            f"nothing, or transparent everywhere (first: {_name(layout, met.blank)})."
        )
    if several := [path for path, each in met.headers.items() if each.has_frames]:
        lines.append(
            f"note: {are(several, 'image')} the first of several pages or frames, the others are "
            f"left out (first: {_name(layout, several)})."
        )
    if long := [
        path
        for path, each in met.headers.items()
        if each.size != size and max(each.size) > LONG * min(each.size)
    ]:
        width, height = met.headers[min(long)].size
        lines.append(
            f"warning: {are(long, 'image')} more than {LONG} times as long as wide, and squashed "
            f"to {size[0]} x {size[1]} pixels (first: {_name(layout, long)}, {width} x {height})."
        )
    return lines


def _name(layout: Layout, paths: Iterable[Path]) -> str:
    """Return the name of the first of these files."""
    return printable(layout.name(min(paths)))


def _unreadable(layout: Layout, met: Met) -> list[str]:
    """Return the problems of files that cannot be read, one for each reason."""
    by_reason: dict[str, list[Path]] = {}
    for path, error in sorted(met.errors.items()):
        by_reason.setdefault(str(error), []).append(path)
    return [
        f"{len(paths):,} unreadable image{'s' * (len(paths) != 1)} "
        f"(first: {_name(layout, paths)}: {reason}). "
        "Remove them, or leave them out with --skip-bad."
        for reason, paths in by_reason.items()
    ]
