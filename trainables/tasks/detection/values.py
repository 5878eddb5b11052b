"""The form of boxes: an array for each image, with a row for each box.

A row is float32: the left, top, right and bottom edge in pixels from the upper left corner of the
image, the class number, and 1 for a crowd, else 0. A crowd is a region that is not evaluated and
not taught as an object: a box around many objects, or around one that is difficult to see. Networks
with anchors may learn it as background.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]
"""The boxes of an image, (boxes, 6): left, top, right, bottom, class number, 1 for a crowd."""
RawBoxes = NDArray[np.float64]
"""Boxes as annotations have them, (boxes, 6), before they are checked and resized."""

CLASS, CROWD = 4, 5
"""The columns of the class number and of the mark of a crowd."""
COLUMNS = 6
SIDE_STEP = 32
"""The sides of a network's input are multiples of this number of pixels.

Networks halve their input up to five times.
"""
MAX_CLASSES = 1000
"""The maximum number of classes."""
LEAST_SIDE = 0.1
"""A box with a shorter side, in pixels, is empty: rounding leaves such rests at an image's edge."""
ROUNDING = 0.5
"""The distance beyond an image's edge, in pixels, that is not worth a note."""
COPY = 0.99
"""Boxes of the same class with at least this IoU are copies."""
MANY_PAIRS = 100_000
"""The number of pairs of boxes that are compared at once, to limit the memory."""
OVERLAP = 0.7
"""Boxes of the same class with more than this IoU may be around the same object."""


def no_boxes() -> Boxes:
    """Return the boxes of an image without objects, (0, 6)."""
    return np.zeros((0, COLUMNS), np.float32)


@dataclass(frozen=True)
class CleanedBoxes:
    """The valid boxes of an image, and how many were changed or left out."""

    boxes: RawBoxes
    clipped: int
    """The number of boxes that reached beyond the edges of the image."""
    invalid: int
    """The number of boxes that were left out: empty, inverted, not finite or outside the image."""
    doubled: int
    """The number of boxes that were left out as copies of another one."""
    overlapping: int
    """The number of pairs that may be around the same object."""


def clean_boxes(boxes: RawBoxes, size: tuple[int, int]) -> CleanedBoxes:
    """Clip boxes to an image of this (width, height), and leave out those that are not valid."""
    corners = boxes[:, :4]
    is_upright = np.isfinite(boxes).all(axis=1) & (corners[:, 2:] > corners[:, :2]).all(axis=1)
    boxes = boxes[is_upright]
    clipped = boxes.copy()
    clipped[:, :4] = np.clip(boxes[:, :4], 0, (*size, *size))
    is_inside = (clipped[:, 2:4] - clipped[:, :2] >= LEAST_SIDE).all(axis=1)
    is_changed = (np.abs(clipped - boxes) > ROUNDING).any(axis=1) & is_inside
    invalid = len(corners) - int(is_inside.sum())
    is_copy, overlapping = _compare(clipped[is_inside])
    return CleanedBoxes(
        clipped[is_inside][~is_copy],
        int(is_changed.sum()),
        invalid,
        int(is_copy.sum()),
        overlapping,
    )


def _compare(boxes: RawBoxes) -> tuple[NDArray[np.bool_], int]:
    """Compare the boxes of each class, without crowds.

    Returns:
        True for each box that is a copy of an earlier one, and the number of pairs that overlap by
        more than `OVERLAP`.
    """
    is_copy, overlapping = np.zeros(len(boxes), bool), 0
    is_object = boxes[:, CROWD] == 0
    for number in np.unique(boxes[is_object, CLASS]):
        rows = np.flatnonzero(is_object & (boxes[:, CLASS] == number))
        earlier, later, ratios = _overlapping_pairs(boxes[rows])
        earlier, later = rows[earlier], rows[later]
        is_close = ratios >= COPY
        order = np.lexsort((earlier[is_close], later[is_close]))
        copies, originals = later[is_close][order], earlier[is_close][order]
        several, starts = np.unique(copies, return_index=True)
        # In ascending order, because a copy of a copy is compared no more.
        for row, candidates in zip(several, np.split(originals, starts[1:]), strict=False):
            is_copy[row] = not is_copy[candidates].all()
        overlapping += int((~is_copy[earlier] & ~is_copy[later] & (ratios > OVERLAP)).sum())
    return is_copy, overlapping


def _overlapping_pairs(
    boxes: RawBoxes,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the rows of all pairs with an IoU of at least `OVERLAP`, the earlier first, and it.

    The IoU is at most that of the two intervals from the left to the right edges. It thus reaches
    `OVERLAP` only if the box that begins later does so within the first 1 - `OVERLAP` of the other
    one's width. Sorted by the left edge, most pairs need no comparison.
    """
    order = np.argsort(boxes[:, 0], kind="stable")
    lefts, widths = boxes[order, 0], boxes[order, 2] - boxes[order, 0]
    # The slack exceeds rounding errors.
    ends = np.searchsorted(lefts, lefts + (1 - OVERLAP + 1e-6) * widths, side="right")
    counts = ends - np.arange(len(boxes)) - 1
    chunks = np.cumsum(counts) // MANY_PAIRS
    pairs = []
    for chunk in np.unique(chunks):
        places = np.flatnonzero((chunks == chunk) & (counts > 0))
        repeats = counts[places]
        firsts = np.repeat(places, repeats)
        steps = np.arange(len(firsts)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        rows = np.sort(np.stack([order[firsts], order[firsts + 1 + steps]]), axis=0)
        ratios = iou(boxes[rows[0]], boxes[rows[1]])
        is_large = ratios >= OVERLAP
        pairs.append((*rows[:, is_large], ratios[is_large]))
    if not pairs:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    earlier, later, ratios = map(np.concatenate, zip(*pairs, strict=True))
    return earlier, later, ratios


def iou(boxes: RawBoxes, references: RawBoxes) -> NDArray[np.float64]:
    """Return the intersection over union (IoU) of boxes, broadcast along all but the last axis."""
    starts = np.maximum(boxes[..., :2], references[..., :2])
    ends = np.minimum(boxes[..., 2:4], references[..., 2:4])
    intersections: NDArray[np.float64] = np.maximum(ends - starts, 0).prod(axis=-1)
    areas, reference_areas = (
        (each[..., 2:4] - each[..., :2]).prod(axis=-1) for each in (boxes, references)
    )
    ratios: NDArray[np.float64] = intersections / (areas + reference_areas - intersections)
    return ratios
