"""The code that readers of a user's folder share: finding it, decoding files, and messages.

Images stay grey if all of them are grey. Images of more than 8 bits are scaled by the range of
values of the whole data set, so that their brightness stays comparable.
"""

from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from trainables.config import DataConfig
from trainables.datasets.arrays import (
    SIXTEEN_BITS,
    TITLES,
    Arrays,
    Images,
    LeftOut,
    Part,
    as_uniform,
    take_rows,
)
from trainables.datasets.images import (
    DEPTHS,
    Header,
    ValueRange,
    extremes,
)
from trainables.datasets.layout import Layout, are
from trainables.errors import DataError, counted, did_you_mean, printable
from trainables.on_disk import Stamp

AnyLayout = TypeVar("AnyLayout", bound=Layout)
EachPath = Callable[[Callable[[Path], Any], list[Path]], Iterable[Any]]
"""A function like `map` for functions of paths."""
DEFAULT_SIDE = 224
GREY_MODES = {"1", "L", "LA", *DEPTHS}
HALF_OF_16_BITS = 32767
UPPER_QUARTER = 63
"""The largest value, as read, of 16-bit colour images that use only 14 bits.

Pillow reads only the upper 8 of the 16 bits.
"""
FEW_SHARE = 0.01
"""If at most this share of the images is unreadable, they are left out with a warning.

More of them may mean that the folder is not what it should be, and the user has to decide.
"""
LONG = 8
"""The ratio of sides above which there is a warning that resizing squashes an image."""
STRETCHED = 1.5
"""The change of the ratio of sides above which a note says that images are stretched."""
FEW_LEVELS, NEARLY_ALL = 16, 0.999
"""A warning is shown if `FEW_LEVELS` of the 256 levels contain the share `NEARLY_ALL` of pixels."""


@dataclass(frozen=True)
class ImageForm:
    """The form to which all images are converted."""

    size: tuple[int, int]
    """(width, height) in pixels."""
    mode: str
    """Pillow's mode: "L" or "RGB"."""
    value_range: ValueRange | None
    """The values that become 0 and 255, for images of more than 8 bits."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.size[1], self.size[0], 1 if self.mode == "L" else 3


@dataclass
class FolderFindings:
    """The headers of the files, and the errors and peculiarities found when decoding them."""

    headers: dict[Path, Header] = field(default_factory=dict)
    errors: dict[Path, DataError] = field(default_factory=dict)
    transparent: list[Path] = field(default_factory=list)
    blank: list[Path] = field(default_factory=list)
    """Transparent images that are completely white on a white background."""
    stamps: dict[Path, Stamp] = field(default_factory=dict)
    """The `stamp_of` each file, before it was decoded."""
    brightest: dict[Path, int] = field(default_factory=dict)
    """The largest value of each image of which Pillow reads the upper 8 of 16 bits."""

    def note(self, path: Path, pixels: Images, *, was_transparent: bool) -> None:
        """Record whether a decoded image was transparent.

        If only its upper 8 bits were read, its largest value is recorded too.
        """
        if was_transparent:
            (self.blank if pixels.min() == 255 else self.transparent).append(path)
        if path in self.headers and self.headers[path].upper_bits:
            self.brightest[path] = int(pixels.max())


def list_left_out(layout: Layout, findings: FolderFindings) -> Iterator[LeftOut]:
    """Yield the files that cannot be read, each with the reason."""
    for path, error in sorted(findings.errors.items()):
        yield LeftOut(printable(layout.name(path)), f"cannot be read: {error}")


def usable_part(
    layout: Layout, unusable: Set[Path], title: str, images: Arrays, targets: Arrays
) -> Part:
    """Return a part without the images that cannot be used, with targets in the form of images.

    Raises:
        DataError: no image of the part can be used.
    """
    paths = [path for _, path in layout.parts[title]]
    rows = np.array([row for row, path in enumerate(paths) if path not in unusable], int)
    if not len(rows):
        raise DataError(f"no image of the {TITLES[title]} set can be used. Check its files.")
    names = tuple(layout.name(paths[row]) for row in rows.tolist())
    if len(rows) < len(paths):
        images, targets = take_rows(images, rows), take_rows(targets, rows)
    return Part(as_uniform(images), as_uniform(targets), names)


def find_layout(config: DataConfig, read: Callable[[Path], AnyLayout], content: str) -> AnyLayout:
    """Return the layout of the folder that `config.root` names.

    Args:
        config: the data set.
        read: returns the layout of an existing folder.
        content: what the folder should contain, for messages.

    Raises:
        DataError: the folder is missing or unreadable, or `read` refuses it.
    """
    if not config.root:  # Path("") would be the current folder
        raise DataError("the data set has no folder (data.root is empty). Use --data folder:PATH.")
    root = Path(config.root)
    try:
        if root.is_file():
            raise DataError(
                f"{str(root)!r} is a file (--data folder:PATH). "
                f"Unpack it if it is an archive, and pass the folder with {content}."
            )
        if not root.is_dir():
            raise DataError(
                f"data set folder not found: {str(root)!r} (--data folder:PATH, or --data-root "
                f"PATH if a search's folder was moved). Expected {content}.{similar_beside(root)}"
            )
        return read(root)
    except OSError as error:
        place = printable(str(error.filename or root))
        raise DataError(f"data set folder {place!r} cannot be read ({error.strerror}).") from error


def similar_beside(root: Path) -> str:
    """Suggest a folder beside a missing one that has a similar name; empty if there is none."""
    try:
        names = sorted(path.name for path in root.parent.iterdir() if path.is_dir())
    except OSError:
        return ""
    return did_you_mean(root.name, names)


def common_mode(headers: Iterable[Header]) -> str:
    """Return the mode to which all images are converted: "L" if all are grey, else "RGB"."""
    modes = {each.mode for each in headers}
    return "L" if modes and modes <= GREY_MODES else "RGB"


def common_form(
    headers: Iterable[Header], image_size: int | None, value_range: ValueRange | None
) -> ImageForm:
    """Return the form to which all images are converted."""
    read_headers = list(headers)
    mode = common_mode(read_headers)
    if image_size is not None:
        return ImageForm((image_size, image_size), mode, value_range)
    sizes = {each.size for each in read_headers}
    if len(sizes) == 1 and max(next(iter(sizes))) <= DEFAULT_SIDE:
        return ImageForm(next(iter(sizes)), mode, value_range)
    return ImageForm((DEFAULT_SIDE, DEFAULT_SIDE), mode, value_range)


def find_value_range(
    layout: Layout,
    headers: dict[Path, Header],
    each: Callable[[Callable[[Path], ValueRange | None], list[Path]], Iterable[ValueRange | None]],
) -> ValueRange | None:
    """Return the values that become 0 and 255, for images of more than 8 bits.

    None if there are no such images. `each` maps a function over paths.

    Raises:
        DataError: there are several kinds of images, whose values cannot be compared, or all
            pixels are equal.
    """
    kinds: dict[str, list[Path]] = {}
    for path, image_header in headers.items():
        kinds.setdefault(DEPTHS.get(image_header.mode, "8-bit"), []).append(path)
    deep = [path for kind, paths in kinds.items() if kind != "8-bit" for path in paths]
    if not deep:
        return None
    ranges = [limits for limits in each(extremes, deep) if limits is not None]
    if not ranges:
        return SIXTEEN_BITS
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    if set(kinds) == {"8-bit", "16-bit"} and high > HALF_OF_16_BITS:
        return SIXTEEN_BITS  # these images use the full range, as 8-bit images do
    if len(kinds) > 1:
        counts = " and ".join(
            f"{kind} ({counted(len(paths), 'image')}, first: {quote_first(layout, paths)})"
            for kind, paths in sorted(kinds.items())
        )
        raise DataError(
            f"the images have different pixel types: {counts}. Their brightness cannot be "
            "compared. Convert all images to the same type, for example to 8 bits."
        )
    if low == high:
        raise DataError(
            f"every pixel of the {next(iter(kinds))} images has the value {low:g}, "
            "so the images cannot be distinguished. Check that they were saved with their values."
        )
    return low, high


def describe_range(
    parts: Iterable[Part], headers: Iterable[Header], value_range: ValueRange | None
) -> list[str]:
    """Return lines on the scaling of images of more than 8 bits; empty if there are none."""
    if value_range is None:
        return []
    counts = np.zeros(256, np.int64)
    for part in parts:
        for images in part.chunks():
            counts += np.bincount(images.ravel(), minlength=256)
    modes = [each.mode for each in headers]
    deep = [DEPTHS[mode] for mode in modes if mode in DEPTHS]
    lines = [
        f"note: all {deep[0]} images are scaled together: values from {value_range[0]:g} to "
        f"{value_range[1]:g} become 0 to 255."
        if len(deep) == len(modes)
        else f"note: there are {counted(len(deep), f'{deep[0]} image')} and "
        f"{counted(len(modes) - len(deep), '8-bit image')}. Values from 0 to 65535 become 0 to "
        "255, and the 8-bit images are unchanged."
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


def find_dark(layout: Layout, findings: FolderFindings) -> list[str]:
    """Return a problem if reading only 8 of 16 bits made all 16-bit colour images nearly black."""
    brightest = max(findings.brightest.values(), default=255)
    if brightest > UPPER_QUARTER:
        return []
    return [
        "only the upper 8 bits of the 16-bit colour images are read (first: "
        f"{quote_first(layout, findings.brightest)}), and their largest value is {brightest} of "
        "255. Convert the images to 8 bits, scaled by their own range."
    ]


def describe_files(
    layout: Layout, findings: FolderFindings, size: tuple[int, int] | None
) -> list[str]:
    """Return notes and warnings on images that were changed when they were read.

    `size` is the (width, height) to which all images were resized; None if they were not.
    """
    lines = []
    if findings.transparent:
        lines.append(
            f"note: {are(findings.transparent, 'image')} partly transparent; the background is "
            f"made white (first: {quote_first(layout, findings.transparent)})."
        )
    if findings.blank:
        lines.append(
            f"warning: {are(findings.blank, 'transparent image')} completely white on a white "
            f"background (first: {quote_first(layout, findings.blank)})."
        )
    if several := [path for path, each in findings.headers.items() if each.has_frames]:
        lines.append(
            f"note: only the first page or frame of {counted(len(several), 'file')} is read "
            f"(first: {quote_first(layout, several)})."
        )
    if size is not None and (
        long := [
            path
            for path, each in findings.headers.items()
            if each.size != size and max(each.size) > LONG * min(each.size)
        ]
    ):
        width, height = findings.headers[min(long)].size
        lines.append(
            f"warning: {are(long, 'image')} more than {LONG} times as long as wide, and distorted "
            f"by resizing to {size[0]} x {size[1]} pixels (first: {quote_first(layout, long)}, "
            f"{width} x {height})."
        )
    elif size is not None and (
        stretched := [
            path for path, each in findings.headers.items() if _is_stretched(each.size, size)
        ]
    ):
        lines.append(
            f"note: {are(stretched, 'image')} stretched by more than half, because all are resized "
            f"to {size[0]} x {size[1]} pixels (first: {quote_first(layout, stretched)})."
        )
    return lines


def _is_stretched(before: tuple[int, int], after: tuple[int, int]) -> bool:
    """True if resizing from one (width, height) to another stretches an image by over a half."""
    ratio = before[0] * after[1] / (before[1] * after[0])
    return max(ratio, 1 / ratio) > STRETCHED


def quote_first(layout: Layout, paths: Iterable[Path]) -> str:
    """Return the first of these paths, relative to the root, in printable characters."""
    return printable(layout.name(min(paths)))


def list_unreadable(
    layout: Layout, findings: FolderFindings, *, are_skipped: bool = False
) -> list[str]:
    """Return the problems of files that cannot be read, a line for each reason.

    They are no problems if `are_skipped`, or if they are few (`FEW_SHARE`).
    """
    if are_skipped or len(findings.errors) <= FEW_SHARE * len(layout.paths):
        return []
    by_reason: dict[str, list[Path]] = {}
    for path, error in sorted(findings.errors.items()):
        by_reason.setdefault(str(error), []).append(path)
    return [
        f"{counted(len(paths), 'image')} cannot be read "
        f"(first: {quote_first(layout, paths)}: {reason}). "
        + (
            "Remove it, or leave it out with --skip-bad."
            if len(paths) == 1
            else "Remove them, or leave them out with --skip-bad."
        )
        for reason, paths in by_reason.items()
    ]
