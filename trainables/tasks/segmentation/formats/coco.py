"""COCO annotations: the shapes of a JSON file, and how they are drawn into masks.

The format is described at https://cocodataset.org/#format-data. A shape is a list of polygons, or
run lengths down the columns (RLE), which may be compressed to text as by pycocotools.
"""

import json
import mmap
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.names import LIKE_A_PART, part_of
from trainables.errors import DataError, printable
from trainables.tasks.segmentation.values import MAX_CLASSES

FILE = re.compile(r"(?:_?annotations|instances_).*\.json", re.IGNORECASE)
SHAPE = re.compile(rb'"segmentation"\s*:\s*(\{|\[[\[\s]*[^\]\[\s])')
"""Matches the beginning of a shape that is not empty."""
BACKGROUND = "background"

Mask = NDArray[np.uint8]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Drawing:
    """The shapes of an image, each with its class number; later ones cover earlier ones."""

    file: str
    """The image's file, as the annotations name it."""
    size: tuple[int, int]
    """(height, width)"""
    shapes: list[tuple[int, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class CocoFile:
    """The content of a JSON file."""

    part: str
    """The part that the file's name means; empty for none."""
    classes: tuple[str, ...]
    drawings: list[Drawing]


def has_shapes(path: Path) -> bool:
    """True if an object in a file has a shape; files of boxes have empty ones, or none."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            return SHAPE.search(text) is not None
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False


def read_coco(path: Path) -> CocoFile:
    """Read the classes and the shapes of a file.

    Raises:
        DataError: the file is damaged, or has too many categories.
    """
    try:
        content = json.loads(path.read_bytes())
        categories = sorted(content["categories"], key=lambda category: category["id"])
        names = dict.fromkeys([BACKGROUND, *(str(category["name"]) for category in categories)])
        numbers = {name: number for number, name in enumerate(names)}
        number_of = {category["id"]: numbers[str(category["name"])] for category in categories}
        drawings = {
            image["id"]: Drawing(str(image["file_name"]), (image["height"], image["width"]))
            for image in content["images"]
        }
        for annotation in content["annotations"]:
            if segmentation := annotation.get("segmentation"):
                shape = number_of[annotation["category_id"]], segmentation
                drawings[annotation["image_id"]].shapes.append(shape)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"{printable(path.name)!r} cannot be read as COCO annotations "
            f"({type(error).__name__}: {printable(str(error))[:80]}). Export it again, with "
            "'images', 'annotations' and 'categories'."
        ) from error
    if len(names) > MAX_CLASSES:
        raise DataError(
            f"{printable(path.name)!r} has {len(names) - 1} categories; at most {MAX_CLASSES - 1} "
            "are allowed."
        )
    stem = re.sub(r"\d+", "", path.stem.removesuffix(".coco"))
    return CocoFile(part_of(stem, LIKE_A_PART), tuple(names), list(drawings.values()))


def draw(drawing: Drawing) -> Mask:
    """Draw the shapes of an image; pixels without a shape are 0.

    Raises:
        DataError: a shape is damaged.
    """
    mask = np.zeros(drawing.size, np.uint8)
    for number, shape in drawing.shapes:
        try:
            if isinstance(shape, Mapping):
                mask[decode_runs(shape["counts"], tuple(shape["size"]))] = number
            else:
                for polygon in shape:
                    fill_polygon(mask, np.array(polygon, float).reshape(-1, 2), number)
        except (ValueError, LookupError, TypeError) as error:
            raise DataError("a shape in its annotations is damaged") from error
    return mask


def fill_polygon(mask: Mask, points: NDArray[np.float64], number: int) -> None:
    """Give the pixels whose centre is within a polygon this number; the mask is changed.

    Args:
        mask: (height, width).
        points: the corners, (corners, 2), as (x, y) in pixels from the upper left corner.
        number: the number of the class.
    """
    x, y = points.T
    next_x, next_y = np.roll(points, -1, axis=0).T
    for row in range(max(0, int(y.min())), min(len(mask), int(np.ceil(y.max())))):
        middle = row + 0.5
        crosses = (y <= middle) != (next_y <= middle)
        slopes = (next_x - x)[crosses] / (next_y - y)[crosses]
        ends = np.sort(x[crosses] + (middle - y[crosses]) * slopes)
        columns = np.maximum(np.ceil(ends - 0.5).astype(int), 0).tolist()
        for start, stop in zip(columns[::2], columns[1::2], strict=True):
            mask[row, start:stop] = number


def decode_runs(counts: Sequence[int] | str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Decode run lengths, which alternate between outside and inside, down the columns.

    Args:
        counts: the lengths, or a text in which they are compressed.
        size: (height, width) of the mask.

    Raises:
        ValueError: the lengths do not add up to the number of pixels.
    """
    lengths = np.array(decompress_runs(counts) if isinstance(counts, str) else counts, np.int64)
    is_inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return is_inside.reshape(size[::-1]).T


def decompress_runs(text: str) -> list[int]:
    """Decode the text in which pycocotools compresses run lengths (`rleFrString`).

    Each letter holds 5 bits of a number, lowest first, and a bit that is set if more follow; the
    highest bit of the last letter is the sign. From the fourth number on, it is the difference to
    the number two places before.
    """
    lengths: list[int] = []
    number = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            number -= (1 << shift) if bits & 16 else 0
            lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
            number = shift = 0
    return lengths
