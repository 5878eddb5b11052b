"""Reading of mask files: to class numbers, uint8 (height, width), where 255 is ignored.

The kind of the files decides how they are read, and is the same for all masks of a data set:
numbers (8 bits, or a palette), 16 bits, or colours.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.datasets.images import (
    DAMAGED,
    DEPTHS,
    STRIP_PIXELS,
    Header,
    open_image,
    turn_upright,
)
from trainables.errors import DataError, counted
from trainables.tasks.segmentation.formats.tables import ClassTable, codes_of, colour_of
from trainables.tasks.segmentation.values import IGNORED

Mask = NDArray[np.uint8]

NUMBERS, DEEP, COLOURS = "8-bit", "16-bit", "colour"
WHITE = 255
"""The value of the foreground in masks of 0 and 255."""
MAX_COLOURS = 5
"""The maximum number of colours in a message."""
FEW_VALUES = 256
"""A file with more colours is a photograph, not a mask."""


JPEG_FILES = (
    "is a JPEG file, whose compression changes class numbers",
    "are JPEG files, whose compression changes class numbers",
)
UNKNOWN_COLOURS = "in colour, but no table says which colour is which class"


class BadMask(DataError):
    """A mask that cannot be used; masks with the same problem are reported together."""

    def __init__(
        self, problem: tuple[str, str], detail: str, remedy: str, *, is_single: bool = False
    ) -> None:
        """Describe the problem.

        Args:
            problem: a clause for one mask, such as "has no colours", and the same for several.
            detail: the values of this mask.
            remedy: a sentence on what to do.
            is_single: True if only this mask is wrong, and it may be left out.
        """
        super().__init__(f"{problem[0]}: {detail}" if detail else problem[0])
        self.problem, self.detail, self.remedy = problem, detail, remedy
        self.is_single = is_single


@dataclass(frozen=True)
class MaskForm:
    """The form in which the values of all masks of a data set are read."""

    kind: str
    table: ClassTable | None

    @property
    def uses_colours(self) -> bool:
        """True if the class of a pixel is that of its colour in the table."""
        return self.table is not None and bool(self.table.colours) and self.kind == COLOURS

    @property
    def is_instances(self) -> bool:
        """True if 16-bit numbers are instances, all of which are foreground."""
        return self.kind == DEEP and self.table is None


def kind_of_mode(mode: str, table: ClassTable | None) -> str:
    """Return the kind of a mask from Pillow's mode.

    A palette is read as numbers, unless a table gives the classes' colours.
    """
    if mode in DEPTHS:
        return DEEP
    if mode == "P":
        return COLOURS if table is not None and table.colours else NUMBERS
    return NUMBERS if mode in ("1", "L", "LA") else COLOURS


def form_of(headers: Iterable[Header], table: ClassTable | None) -> MaskForm:
    """Return the form of masks with these headers.

    Raises:
        DataError: there are masks of several kinds.
    """
    counts = Counter(kind_of_mode(each.mode, table) for each in headers)
    if len(counts) > 1:
        kinds = ", ".join(
            f"{kind}: {counted(count, 'mask')}" for kind, count in sorted(counts.items())
        )
        raise DataError(
            f"the masks have different formats ({kinds}), in which equal values mean different "
            "things. Convert all masks to 8-bit PNG files whose pixel values are class numbers."
        )
    return MaskForm(next(iter(counts), NUMBERS), table)


def read_mask(path: Path, form: MaskForm) -> Mask:
    """Decode a mask file. Numbers are returned as they are, also those of black and white masks.

    Raises:
        DataError: the file is damaged, or its values cannot be read in this form.
    """
    with open_image(path) as image:
        if image.format == "JPEG":
            raise BadMask(
                JPEG_FILES,
                "",
                "Save masks as PNG files.",
            )
        try:
            turn_upright(image)
            return _read_opened(image, form)
        except DAMAGED as error:
            if isinstance(error, DataError):
                raise
            raise DataError("the mask is damaged or cut off") from error


def _read_opened(image: Image.Image, form: MaskForm) -> Mask:
    if form.kind == DEEP:
        return _from_deep(np.asarray(image), form)
    if form.uses_colours and form.table is not None:
        mask = _from_colours(np.asarray(image.convert("RGB")), form.table)
        if image.mode == "P":
            mask[np.asarray(image) == IGNORED] = IGNORED
        return mask
    if form.kind == COLOURS:
        return _from_grey_colours(np.asarray(image.convert("RGB")))
    grey = image if image.mode in ("L", "P") else image.convert("L")
    return np.array(grey, np.uint8)


def _from_deep(values: NDArray[np.generic], form: MaskForm) -> Mask:
    numbers = np.asarray(values)
    if numbers.dtype.kind == "f":
        raise BadMask(
            ("has numbers with fractions", "have numbers with fractions"),
            "",
            "Save masks as 8-bit PNG files.",
        )
    if form.is_instances:
        return (numbers > 0).astype(np.uint8)
    if (largest := int(numbers.max(initial=0))) > IGNORED:
        raise BadMask(
            ("has class numbers above 255", "have class numbers above 255"),
            f"{largest}",
            "Use class numbers from 0 to 254, and 255 for pixels to ignore.",
        )
    return numbers.astype(np.uint8)


def _from_colours(pixels: NDArray[np.uint8], table: ClassTable) -> Mask:
    """Look up the class of each pixel's colour, a strip at a time to save memory.

    Raises:
        BadMask: a colour is not in the table.
    """
    mask = np.empty(pixels.shape[:2], np.uint8)
    rows = max(1, STRIP_PIXELS // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        mask[top : top + rows] = _look_up(pixels[top : top + rows], table)
    return mask


def _look_up(pixels: NDArray[np.uint8], table: ClassTable) -> NDArray[np.intp]:
    codes, order = codes_of(pixels), np.argsort(table.codes)
    places = np.searchsorted(table.codes[order], codes).clip(max=len(order) - 1)
    numbers: NDArray[np.intp] = order[places]
    is_unknown = table.codes[numbers] != codes
    if is_unknown.any():
        colour = colour_of(int(codes[is_unknown][0]))
        raise BadMask(
            (
                f"has colours that are not in {table.source!r}",
                f"have colours that are not in {table.source!r}",
            ),
            f"{colour}; the most similar colour is that of {table.nearest(colour)}",
            "Add the colour to the table, or correct the masks.",
        )
    return numbers


def _from_grey_colours(pixels: NDArray[np.uint8]) -> Mask:
    """Return the numbers of a mask that was saved as a colour image.

    Raises:
        BadMask: it has colours.
    """
    if (pixels != pixels[..., :1]).any():
        colours = sorted(colour_of(code) for code in np.unique(codes_of(pixels)).tolist())
        more = ", ..." if len(colours) > MAX_COLOURS else ""
        raise BadMask(
            (f"is {UNKNOWN_COLOURS}", f"are {UNKNOWN_COLOURS}"),
            f"{', '.join(map(str, colours[:MAX_COLOURS]))}{more}",
            "Put a file 'classes.csv' into the folder, with a line name,red,green,blue per class.",
        )
    return np.array(pixels[..., 0])


def looks_like_a_mask(path: Path) -> bool:
    """True if a file may be a mask: it has few colours, and no lossy format."""
    try:
        with open_image(path) as image:
            if image.format == "JPEG":
                return False
            if image.mode in DEPTHS or image.mode in ("1", "L", "P"):
                return True
            return image.convert("RGB").getcolors(FEW_VALUES) is not None
    except DAMAGED:
        return False


def count_values(mask: Mask) -> NDArray[np.int64]:
    """Count the pixels of each value, (256,).

    `np.bincount` would first copy the mask to eight times its size.
    """
    return np.array(Image.fromarray(mask).histogram(), np.int64)


def is_black_and_white(values: NDArray[np.bool_], modes: Iterable[str]) -> bool:
    """True if masks of these modes have only the values 0 and 255, which is then foreground.

    In a palette, 255 is always ignored.
    """
    is_plain = "P" not in set(modes)
    return bool(is_plain and values[WHITE] and not values[1:WHITE].any())
