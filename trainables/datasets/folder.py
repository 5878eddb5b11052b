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
from trainables.datasets.layout import Layout, layout_of
from trainables.datasets.memory import require_memory
from trainables.errors import DataError, printable
from trainables.processors import processors

DEFAULT_SIDE = 224
GREY_MODES = {"1", "L", "LA", *DEPTHS}
HALF_OF_16_BITS = 32767
UPPER_QUARTER = 63
"""The brightest value of 16-bit colour images of which 14 or fewer bits are used.

Pillow reads the upper 8 of the 16 bits.
"""
FEW_LEVELS, NEARLY_ALL = 16, 0.999
"""A warning is given where this share of the pixels lies within so few of the 256 levels."""


def load(
    config: DataConfig, *, download: bool, layout: Layout, allocate: Allocate = in_memory
) -> Decoded:
    """Decode every image of the folder.

    The unreadable ones are refused, all at once, or with `skip_bad` left out and counted.
    """
    parts, paths = layout.parts, layout.paths
    classes = sorted({name for part in parts.values() for name, _ in part})
    # What Pillow would warn of is read, or is an error with its file's name.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(processors()) as pool:
        headers = {
            path: found for path, found in zip(paths, pool.map(header, paths), strict=True) if found
        }
        value_range = _value_range(config, headers, pool.map)
        size, mode = _common_form(headers.values(), config.image_size)
        shape = size[1], size[0], 1 if mode == "L" else 3
        if config.train_limit is None:
            require_memory(len(paths), shape)
        errors: dict[Path, DataError] = {}
        transparent: list[Path] = []

        def decode(images: Images, row: int, path: Path) -> None:
            try:
                images[row], was_transparent = decode_telling(
                    path, size, mode, value_range or SIXTEEN_BITS
                )
            except DataError as error:
                errors[path] = error
            else:
                transparent.extend([path] * was_transparent)

        made = {}
        for title, members in parts.items():
            images = made[title] = allocate(title, (len(members), *shape))
            each = [path for _, path in members]
            list(pool.map(decode, [images] * len(each), range(len(each)), each))
    if errors and not config.skip_bad:
        raise _unreadable(config, {path: errors[path] for path in paths if path in errors})
    whole = {title: _part(made[title], layout, classes, errors, title) for title in parts}
    remarks = [
        *_about_range(whole.values(), headers.values(), value_range),
        *_about_transparent(config, transparent),
    ]
    return Decoded(
        tuple(classes),
        whole["train"],
        whole.get("test"),
        len(errors),
        val=whole.get("val"),
        value_range=value_range,
        remarks=tuple(remarks),
        left_out=tuple(
            LeftOut(_name(config, path), f"cannot be read: {errors[path]}")
            for path in sorted(errors)
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
    root = Path(config.root)
    try:
        if not root.is_dir():
            raise DataError(
                f"data set folder not found: {str(root)!r} (--data folder:PATH). "
                "Expected one sub-folder per class."
            )
        return layout_of(root)
    except OSError as error:
        raise DataError(
            f"data set folder {str(root)!r} cannot be read ({error.strerror})."
        ) from error


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
    config: DataConfig,
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
            f"{len(paths):,} {kind} (first: {_name(config, paths[0])})"
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
    """Return lines on how images of more than 8 bits were read.

    Raises:
        DataError: of 16-bit colour images nearly nothing is left.
    """
    known = list(headers)
    only_upper_bits = bool(known) and all(each.upper_bits for each in known)
    if value_range is None and not only_upper_bits:
        return []
    counts = np.zeros(256, np.int64)
    for part in parts:
        for images in part.chunks():
            counts += np.bincount(images.ravel(), minlength=256)
    if value_range is None:
        if (brightest := int(np.flatnonzero(counts).max(initial=0))) <= UPPER_QUARTER:
            raise DataError(
                "of the 16-bit colour images the upper 8 bits are read, and those reach "
                f"{brightest} of 255. Convert the images to 8 bits, by their own range."
            )
        return []
    kind = next(DEPTHS[each.mode] for each in known if each.mode in DEPTHS)
    lines = [
        f"note: {kind} images: values from {value_range[0]:g} to {value_range[1]:g}, "
        "the range of all images together, become 0 to 255."
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


def _about_transparent(config: DataConfig, paths: list[Path]) -> list[str]:
    if not paths:
        return []
    count = "1 image is" if len(paths) == 1 else f"{len(paths):,} images are"
    return [
        f"note: {count} transparent in places, and laid onto white "
        f"(first: {_name(config, min(paths))})."
    ]


def _name(config: DataConfig, path: Path) -> str:
    return printable(path.relative_to(config.root).as_posix())


def _unreadable(config: DataConfig, errors: dict[Path, DataError]) -> DataError:
    first, reason = next(iter(errors.items()))
    return DataError(
        f"{len(errors)} unreadable image{'s' * (len(errors) != 1)} "
        f"(first: {_name(config, first)}: {reason}). "
        "Remove them, or leave them out with --skip-bad."
    )
