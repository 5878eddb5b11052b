"""Images that show the same picture: pixel by pixel, nearly, or mirrored.

Nearly equal images are looked for by their hashes, of which those are compared that have a quarter
of their bits in common, and each pair is verified by the correlation of its thumbnails. How much
two images must correlate depends on how much any two of the data do.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.arrays import CHUNK, Images, Part, Ragged
from trainables.inspection.hashes import MIRROR, Floats, Hashes, hashes, mirrored, thumbnails

Rows = NDArray[np.int64]
"""Numbers of images, counted through all parts in order."""
THUMBNAIL = 32
"""The largest side of a thumbnail, in pixels."""
MIN_SIDE = 24
"""Of smaller images two different ones may be nearly equal: their copies are looked for alone."""
VARIED, MIN_SIMILARITY, MAX_DISTANCE = 0.42, 0.95, 6
ALIKE, MIN_SIMILARITY_ALIKE, MAX_DISTANCE_ALIKE = 0.7, 0.995, 2
"""If nine tenths of all pairs of images correlate by less than the first figure, two that
correlate by the second are one picture; their hashes then differ in no more bits than the third.

Where images are more alike than `ALIKE`, none are taken for one picture. Measured: in 51,000 images
of CIFAR-10 (0.31) 136 pairs and 41 mirrored ones are found, and each shows one picture; in 70,000
of MNIST (0.53) none, where two drawings correlate by 0.9944 at most.
"""
SAMPLE = 400
"""The number of images by which is measured how alike any two are."""
BANDS, WINDOW = 4, 64
"""Hashes are compared with those that equal them in one of `BANDS` sets of bits; of very many
such, in order, with the next `WINDOW`."""
MAX_PAIRS = 100_000
"""The most pairs that are kept."""
NOT_LOOKED_FOR = "nearly equal ones were not looked for"


@dataclass(frozen=True)
class Copies:
    """The copies among all images of some parts, counted through."""

    original: Rows
    """For each image the first that equals it in every pixel, (images,)."""
    near: Rows
    """Pairs of originals that nearly equal each other, (pairs, 2), the first before the second."""
    mirrored: Rows
    """Pairs of originals of which one is nearly the mirror image of the other, (pairs, 2)."""
    limit: str = ""
    """A clause on what was not looked for, and why; empty if all was."""

    def among(self, rows: Rows) -> "Copies":
        """Return the copies among these images, in this order."""
        nobody = len(rows)
        first = np.full(len(self.original), nobody)
        np.minimum.at(first, self.original[rows], np.arange(nobody))

        def pairs(found: Rows) -> Rows:
            moved = np.unique(np.sort(first[found], axis=1), axis=0)
            return moved[moved[:, 1] < nobody]

        return Copies(
            first[self.original[rows]], pairs(self.near), pairs(self.mirrored), self.limit
        )


def find_copies(parts: Sequence[Part]) -> Copies:
    """Find the copies among the images of these parts."""
    original = _originals(parts)
    none, sides = np.empty((0, 2), np.int64), [_least_side(part) for part in parts if len(part)]
    if min(sides, default=0) < MIN_SIDE:
        small = f"images of fewer than {MIN_SIDE} pixels a side"
        return Copies(original, none, none, f"{NOT_LOOKED_FOR}: {small}")
    distinct = np.unique(original)
    look = _Look(parts, min(THUMBNAIL, *sides))
    likeness = _likeness(look, distinct)
    if likeness >= ALIKE or len(distinct) < 2:
        return Copies(original, none, none, f"{NOT_LOOKED_FOR}: the images look too much alike")
    similarity, distance = (
        (MIN_SIMILARITY, MAX_DISTANCE)
        if likeness < VARIED
        else (MIN_SIMILARITY_ALIKE, MAX_DISTANCE_ALIKE)
    )
    found = np.concatenate([hashes(images) for part in parts for images in _batches(part)])
    plain, turned = _candidates(found[distinct], distance)
    near = _verified(look, distinct[plain], similarity, mirror=False)
    is_known = np.isin(_keys(distinct[turned], len(original)), _keys(near, len(original)))
    other = _verified(look, distinct[turned][~is_known], similarity, mirror=True)
    is_cut = MAX_PAIRS in (len(near), len(other))
    return Copies(original, near, other, f"cut off at {MAX_PAIRS:,} pairs" if is_cut else "")


def _least_side(part: Part) -> int:
    if isinstance(part.images, Ragged):
        return int(part.images.shapes[:, :2].min())
    return min(part.shape[1:3])


def _batches(part: Part) -> Iterator[Images]:
    """Yield all images of a part, (count, height, width, channels), some of one size at a time."""
    if part.is_ragged:
        yield from (image[None] for image in part.each())
    else:
        yield from part.chunks()


def _originals(parts: Sequence[Part]) -> Rows:
    """Return for each image the first that is equal to it."""
    first: dict[bytes, int] = {}
    images = (image for part in parts for image in part.each())
    return np.array(
        [
            first.setdefault(
                hashlib.sha256(str(image.shape).encode() + image.tobytes()).digest(), number
            )
            for number, image in enumerate(images)
        ],
        dtype=np.int64,
    )


class _Look:
    """Thumbnails of images that are counted through all parts."""

    def __init__(self, parts: Sequence[Part], side: int) -> None:
        self.parts, self.side = parts, side
        self.starts = np.cumsum([0, *map(len, parts)])

    def thumbnails(self, rows: Rows) -> Floats:
        """Return the thumbnails of these images, in ascending order; a few MB of pixels at once."""
        made = []
        for part, start in zip(self.parts, self.starts, strict=False):
            own = rows[(rows >= start) & (rows < start + len(part))] - start
            step = max(1, CHUNK // max(1, part.size // max(1, len(part))))
            for first in range(0, len(own), step):
                some = part.take(own[first : first + step])
                made += [thumbnails(images, self.side) for images in _batches(some)]
        return np.concatenate(made)


def _likeness(look: _Look, distinct: Rows) -> float:
    """Return the correlation below which nine tenths of all pairs of images are."""
    sample = distinct[np.unique(np.linspace(0, len(distinct) - 1, SAMPLE).astype(int))]
    thumbs = look.thumbnails(sample).reshape(len(sample), -1)
    pairs = (thumbs @ thumbs.T)[np.triu_indices(len(sample), 1)]
    return float(np.percentile(pairs, 90)) if len(pairs) else 1.0


def _candidates(found: Hashes, distance: int) -> tuple[Rows, Rows]:
    """Return the pairs of hashes that differ in so few bits, and those of mirror images.

    Both are (pairs, 2), of places in `found`.
    """
    count = len(found)
    both = np.concatenate([found, found ^ MIRROR])
    keys = []
    for band in range(BANDS):
        bits = both & np.uint64(sum(1 << bit for bit in range(band, 64, BANDS)))
        order = np.lexsort((both, bits))
        bits, here = bits[order], np.arange(2 * count)
        for step in range(1, WINDOW + 1):
            here = here[here + step < 2 * count]
            here = here[bits[here] == bits[here + step]]
            if not len(here):
                break
            one, other = order[here], order[here + step]
            is_near = np.bitwise_count(both[one] ^ both[other]) <= distance
            low = np.minimum(one[is_near], other[is_near])
            high = np.maximum(one[is_near], other[is_near])
            wanted = low < count  # of two mirrored ones, the plain ones are a pair too
            keys.append(np.unique(low[wanted] * (2 * count) + high[wanted]))
    every = np.unique(np.concatenate(keys)) if keys else np.empty(0, np.int64)
    low, high = np.divmod(every, 2 * count)
    is_plain = high < count
    other = high - count
    crossed = np.minimum(low, other) * count + np.maximum(low, other)
    turned = np.stack(np.divmod(np.unique(crossed[~is_plain]), count), axis=1)
    return np.stack([low, high], axis=1)[is_plain], turned[turned[:, 0] < turned[:, 1]]


def _keys(pairs: Rows, count: int) -> Rows:
    """Return a number for each pair."""
    return np.asarray(pairs[:, 0] * count + pairs[:, 1], np.int64)


def _verified(look: _Look, pairs: Rows, similarity: float, *, mirror: bool) -> Rows:
    """Return the pairs whose thumbnails correlate by `similarity` or more."""
    kept = [np.empty((0, 2), np.int64)]
    for first in range(0, len(pairs), 1000):
        some = pairs[first : first + 1000]
        rows, places = np.unique(some, return_inverse=True)
        thumbs = look.thumbnails(rows)
        one, other = thumbs[places.reshape(-1, 2).T]
        other = mirrored(other) if mirror else other
        kept.append(some[(one * other).sum(axis=(1, 2, 3)) >= similarity])
        if sum(map(len, kept)) > MAX_PAIRS:
            break
    return np.concatenate(kept)[:MAX_PAIRS]
