"""Images that show the same picture: equal in every pixel, nearly equal, or mirrored.

Candidates for nearly equal images are pairs with similar hashes. Two hashes are compared only if
they agree in at least one of four quarters of their bits. Each candidate is then verified by the
correlation of its thumbnails. The more alike the images of the data are in general, the higher the
required correlation.
"""

import hashlib
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.arrays import CHUNK, Images, Part, Ragged
from trainables.disk import cache_folder, cache_limit, make_private, reserve
from trainables.inspection.hashes import (
    MIRROR,
    Floats,
    Hashes,
    hashes,
    mirror_thumbnails,
    thumbnails,
)

Rows = NDArray[np.int64]
"""Numbers of images, which are numbered consecutively across all parts."""
THUMBNAIL = 32
"""The largest side of a thumbnail, in pixels."""
MIN_SIDE = 24
"""The smallest side, in pixels, of images among which nearly equal ones are searched for.

Smaller images may be nearly equal although they show different pictures.
"""
VARIED, MIN_SIMILARITY, MAX_DISTANCE = 0.42, 0.95, 6
ALIKE, MIN_SIMILARITY_ALIKE, MAX_DISTANCE_ALIKE = 0.7, 0.995, 2
"""Thresholds for two ranges of the data's likeness (`_likeness`): below `VARIED`, or below `ALIKE`.

The second number of each line is the minimum correlation of thumbnails that show the same picture.
The third is the maximum number of bits in which the hashes of candidates differ. If the likeness is
`ALIKE` or more, nearly equal images are not searched for. Measured: in 51,000 images of CIFAR-10
(likeness 0.31), 136 pairs and 41 mirrored ones are found, all of them correct. In 70,000 images of
MNIST (likeness 0.53), none is found; different drawings correlate by at most 0.9944.
"""
SAMPLE = 400
"""The number of images on which the likeness of the data is measured."""
BANDS, WINDOW = 4, 64
"""Two hashes are compared if they agree in one of `BANDS` sets of bits.

In addition, they must be at most `WINDOW` places apart when the hashes that agree are sorted.
"""
IN_MEMORY = 256_000_000
"""The maximum size of thumbnails in memory, in bytes; more of them are in a file."""
BATCH = 1000
"""The number of images whose thumbnails are computed at once, and of pairs compared at once."""
MAX_PAIRS = 100_000
"""The maximum number of pairs of each kind that are returned."""
NOT_LOOKED_FOR = "nearly equal images were not searched for"


@dataclass(frozen=True)
class Copies:
    """The copies among the images of some parts, which are numbered across the parts."""

    original: Rows
    """For each image, the first one that equals it in every pixel, (images,).

    An image is called an original if its entry is its own number.
    """
    near: Rows
    """Pairs of nearly equal originals, (pairs, 2), each in ascending order."""
    mirrored: Rows
    """Pairs of originals that are nearly mirror images of each other, (pairs, 2)."""
    limit: str = ""
    """A clause on what was not searched, and why; empty if the search was complete."""

    def among(self, rows: Rows) -> "Copies":
        """Return the copies among these images, renumbered by their order in `rows`."""
        nobody = len(rows)
        first = np.full(len(self.original), nobody)
        np.minimum.at(first, self.original[rows], np.arange(nobody))

        def pairs(numbers: Rows) -> Rows:
            moved = np.unique(np.sort(first[numbers], axis=1), axis=0)
            return moved[moved[:, 1] < nobody]

        return Copies(
            first[self.original[rows]], pairs(self.near), pairs(self.mirrored), self.limit
        )


def find_copies(parts: Sequence[Part]) -> Copies:
    """Find the copies among the images of these parts; `limit` states what was not searched."""
    none, sides = np.empty((0, 2), np.int64), [_least_side(part) for part in parts if len(part)]
    is_small = min(sides, default=0) < MIN_SIDE
    # All are hashed, though the images may turn out to be too similar: reading them again is worse.
    original, image_hashes = _read_all(parts, with_hashes=not is_small)
    if is_small:
        small = f"some images have fewer than {MIN_SIDE} pixels per side"
        return Copies(original, none, none, f"{NOT_LOOKED_FOR}: {small}")
    distinct = np.unique(original)
    source = _ThumbnailSource(parts, min(THUMBNAIL, *sides))
    likeness = _likeness(source, distinct)
    if likeness >= ALIKE or len(distinct) < 2:
        return Copies(original, none, none, f"{NOT_LOOKED_FOR}: the images are too similar")
    similarity, distance = (
        (MIN_SIMILARITY, MAX_DISTANCE)
        if likeness < VARIED
        else (MIN_SIMILARITY_ALIKE, MAX_DISTANCE_ALIKE)
    )
    candidates, mirror_candidates = (
        distinct[pairs] for pairs in _find_candidates(image_hashes[distinct], distance)
    )
    table = _ThumbnailTable(source, np.union1d(candidates, mirror_candidates))
    near = _verify(table, candidates, similarity, mirror=False)
    is_known = np.isin(_keys(mirror_candidates, len(original)), _keys(near, len(original)))
    mirror_pairs = _verify(table, mirror_candidates[~is_known], similarity, mirror=True)
    is_cut = MAX_PAIRS in (len(near), len(mirror_pairs))
    return Copies(
        original,
        near,
        mirror_pairs,
        f"only the first {MAX_PAIRS:,} pairs are counted" if is_cut else "",
    )


def _least_side(part: Part) -> int:
    if isinstance(part.images, Ragged):
        return int(part.images.shapes[:, :2].min())
    return min(part.shape[1:3])


def _batches(part: Part) -> Iterator[Images]:
    """Yield all images of a part in batches of one size, (count, height, width, channels)."""
    if part.is_ragged:
        yield from (image[None] for image in part.each())
    else:
        yield from part.chunks()


def _read_all(parts: Sequence[Part], *, with_hashes: bool) -> tuple[Rows, Hashes]:
    """Read all images once, to find equal ones and to compute their hashes.

    Returns:
        For each image, the first one that equals it in every pixel, (images,); and the hashes,
        (images,), which are empty unless `with_hashes`.
    """
    first: dict[bytes, int] = {}
    original, image_hashes = list[int](), [np.empty(0, np.uint64)]
    for part in parts:
        for images in _batches(part):
            for image in images:
                content = hashlib.sha256(str(image.shape).encode() + image.tobytes()).digest()
                original.append(first.setdefault(content, len(original)))
            if with_hashes:
                image_hashes.append(hashes(images))
    return np.array(original, dtype=np.int64), np.concatenate(image_hashes)


class _ThumbnailSource:
    """Thumbnails of images, which are numbered across all parts."""

    def __init__(self, parts: Sequence[Part], side: int) -> None:
        self.parts, self.side = parts, side
        self.shape = side, parts[0].shape[-1], side
        """The shape of a thumbnail: (side, channels, side)."""
        self.starts = np.cumsum([0, *map(len, parts)])

    def thumbnails(self, rows: Rows) -> Floats:
        """Return the thumbnails of these images, which must be in ascending order.

        The images are read a few MB at a time.
        """
        batches = []
        for part, start in zip(self.parts, self.starts, strict=False):
            own = rows[(rows >= start) & (rows < start + len(part))] - start
            step = max(1, CHUNK // max(1, part.size // max(1, len(part))))
            for first in range(0, len(own), step):
                some = part.take(own[first : first + step])
                batches += [thumbnails(images, self.side) for images in _batches(some)]
        return np.concatenate(batches)


class _ThumbnailTable:
    """The thumbnails of some images, each of which is computed once if there is room for all.

    An image may be in many pairs, and reading it from the disk takes long. More than `IN_MEMORY`
    bytes are kept in a file. Without room for it, thumbnails are computed whenever they are used.
    """

    def __init__(self, source: _ThumbnailSource, rows: Rows) -> None:
        """Compute the thumbnails of these images, in ascending order."""
        self.source, self.rows = source, rows
        self.table = _allocate((len(rows), *source.shape)) if len(rows) else None
        if self.table is not None:
            for first in range(0, len(rows), BATCH):
                self.table[first : first + BATCH] = source.thumbnails(rows[first : first + BATCH])

    def thumbnails(self, rows: Rows) -> Floats:
        """Return the thumbnails of some of the images, in ascending order."""
        if self.table is None:
            return self.source.thumbnails(rows)
        return np.asarray(self.table[np.searchsorted(self.rows, rows)])


def _allocate(shape: tuple[int, ...]) -> Floats | None:
    """Return an array in memory, or in a file of the cache; None without room on the disk."""
    size = 4 * math.prod(shape)
    if size <= IN_MEMORY:
        return np.empty(shape, np.float32)
    folder = cache_folder("thumbnails")
    with suppress(OSError):  # the cache cannot be written to
        make_private(folder)
        if size > min(cache_limit(folder), shutil.disk_usage(folder).free // 2):
            return None
        # The file has no name: its space is freed when the array is no longer used.
        with tempfile.TemporaryFile(dir=folder) as file:
            if reserve(file.fileno(), size):
                return np.memmap(file, np.float32, "r+", shape=shape)
    return None


def _likeness(source: _ThumbnailSource, distinct: Rows) -> float:
    """Return the likeness of the data: the 90th percentile of correlations between two images.

    It is measured on a sample of the distinct images. If there is only one image, it is 1.
    """
    sample = distinct[np.unique(np.linspace(0, len(distinct) - 1, SAMPLE).astype(int))]
    thumbs = source.thumbnails(sample).reshape(len(sample), -1)
    pairs = (thumbs @ thumbs.T)[np.triu_indices(len(sample), 1)]
    return float(np.percentile(pairs, 90)) if len(pairs) else 1.0


def _find_candidates(image_hashes: Hashes, distance: int) -> tuple[Rows, Rows]:
    """Return the pairs of similar images, and the pairs of an image and a similar mirror image.

    Both are (pairs, 2), indices into `image_hashes`. Two images are similar if their hashes differ
    in at most `distance` bits. To find mirror images, each hash is also compared with the hashes of
    the mirrored images, which are numbered from `count`.
    """
    count = len(image_hashes)
    all_hashes = np.concatenate([image_hashes, image_hashes ^ MIRROR])
    keys = []
    for band in range(BANDS):
        bits = all_hashes & np.uint64(sum(1 << bit for bit in range(band, 64, BANDS)))
        order = np.lexsort((all_hashes, bits))
        bits, here = bits[order], np.arange(2 * count)
        for step in range(1, WINDOW + 1):
            here = here[here + step < 2 * count]
            here = here[bits[here] == bits[here + step]]
            if not len(here):
                break
            first, second = order[here], order[here + step]
            is_near = np.bitwise_count(all_hashes[first] ^ all_hashes[second]) <= distance
            low = np.minimum(first[is_near], second[is_near])
            high = np.maximum(first[is_near], second[is_near])
            is_new = low < count  # a pair of two mirrored images is also a pair of plain ones
            keys.append(np.unique(low[is_new] * (2 * count) + high[is_new]))
    every = np.unique(np.concatenate(keys)) if keys else np.empty(0, np.int64)
    low, high = np.divmod(every, 2 * count)
    is_plain = high < count
    mirror_high = high - count
    crossed = np.minimum(low, mirror_high) * count + np.maximum(low, mirror_high)
    turned = np.stack(np.divmod(np.unique(crossed[~is_plain]), count), axis=1)
    return np.stack([low, high], axis=1)[is_plain], turned[turned[:, 0] < turned[:, 1]]


def _keys(pairs: Rows, count: int) -> Rows:
    """Encode each pair as a number, (pairs,)."""
    return np.asarray(pairs[:, 0] * count + pairs[:, 1], np.int64)


def _verify(table: _ThumbnailTable, pairs: Rows, similarity: float, *, mirror: bool) -> Rows:
    """Return the first `MAX_PAIRS` pairs whose thumbnails correlate by at least `similarity`.

    With `mirror`, the second image of each pair is mirrored first.
    """
    verified = [np.empty((0, 2), np.int64)]
    for first in range(0, len(pairs), BATCH):
        batch = pairs[first : first + BATCH]
        rows, places = np.unique(batch, return_inverse=True)
        thumbs = table.thumbnails(rows)
        first_thumbs, second_thumbs = thumbs[places.reshape(-1, 2).T]
        second_thumbs = mirror_thumbnails(second_thumbs) if mirror else second_thumbs
        verified.append(batch[(first_thumbs * second_thumbs).sum(axis=(1, 2, 3)) >= similarity])
        if sum(map(len, verified)) > MAX_PAIRS:
            break
    return np.concatenate(verified)[:MAX_PAIRS]
