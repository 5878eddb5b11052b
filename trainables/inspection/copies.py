"""Images that show the same picture: equal in every pixel, nearly equal, or mirrored.

Candidates for nearly equal images are pairs with similar hashes. The hash has one bit for each of
64 low frequencies of the discrete cosine transform. A bit is set if the amplitude of its frequency
is positive. The hash does not depend on brightness and contrast, and hardly on size and
compression. The hash of the mirrored image follows from that of the image, because mirroring
inverts the sign of each odd horizontal frequency. Two hashes are compared only if they agree in at
least one of four quarters of their bits.

Each candidate is then verified by the correlation of its thumbnails. The more alike the images of
the data are in general, the higher the required correlation.

`imagehash` is not used: it computes 12,000 hashes a second instead of 57,000 (64 x 64 pixels), has
none of mirror images, and verifies nothing.
"""

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.arrays import CHUNK, Images, Part, Ragged
from trainables.disk import PARTIAL, cache_folder, cache_limit, evict, make_private, reserve

Floats = NDArray[np.float32]
Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]
"""Numbers of images, which are numbered consecutively across all parts."""
BITS, WAVES = 64, 11
"""The number of bits of a hash, and the number of frequencies per direction to choose from."""
LOWEST = sorted(
    ((down, across) for down in range(WAVES) for across in range(WAVES) if down or across),
    key=lambda pair: (sum(pair), max(pair), pair),
)[:BITS]
"""The (vertical, horizontal) frequency of each bit."""
MIRROR = np.uint64(sum(1 << bit for bit, (_, across) in enumerate(LOWEST) if across % 2))
"""The bits that differ between the hash of an image and that of its mirror image."""
GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""The weights of red, green and blue in brightness (ITU-R BT.601)."""
NOISE = 0.01
"""The amplitude, in levels of brightness, above which a bit is set.

It exceeds the rounding errors of amplitudes that are exactly 0 in theory, such as half of the
amplitudes of a symmetric image.
"""
FLAT = 2.0
"""A thumbnail with a smaller standard deviation, in levels of brightness, is regarded as flat."""
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
VERSION = 2
"""The version of the search for copies. Increment it if the results change.

Increment `DECODING` too, because the data without copies, on which searches train, then changes.
"""
FILE = "copies.npz"
MIN_CACHED, CACHE_BYTES = 5000, 100_000_000
"""The minimum number of images for caching, and the maximum total size of the cache in bytes."""


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
    distinct, thumbs = np.unique(original), _Thumbnails(parts, min(THUMBNAIL, *sides))
    likeness = _likeness(thumbs, distinct)
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
    thumbs.store(np.union1d(candidates, mirror_candidates))
    near = _verify(thumbs, candidates, similarity)
    keys = len(original), 1  # by which a pair becomes one number
    is_known = np.isin(mirror_candidates @ keys, near @ keys)
    mirrored = _verify(thumbs, mirror_candidates[~is_known], similarity, mirror=True)
    is_cut = MAX_PAIRS in (len(near), len(mirrored))
    limit = f"only the first {MAX_PAIRS:,} pairs are counted" if is_cut else ""
    return Copies(original, near, mirrored, limit)


def load_copies(parts: Iterable[Part], *identity: object) -> Copies:
    """Find the copies among the images of these parts; for large data, if possible in the cache.

    `identity` consists of JSON-compatible values that determine the images and their order.
    """
    parts = list(parts)
    if sum(map(len, parts)) < MIN_CACHED:
        return find_copies(parts)
    key = hashlib.sha256(json.dumps([VERSION, *identity]).encode()).hexdigest()[:32]
    folder = cache_folder("copies") / key
    try:
        with (folder / FILE).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            near, mirrored = arrays["near"], arrays["mirrored"]
            stored = Copies(arrays["original"], near, mirrored, str(arrays["limit"]))
        folder.touch()  # marks the entry as recently used
        return stored
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        copies = find_copies(parts)
    with suppress(OSError):
        make_private(folder.parent)
        partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder.parent))
        try:
            np.savez(partial / FILE, **asdict(copies))
            shutil.rmtree(folder, ignore_errors=True)  # a damaged entry may be there
            partial.rename(folder)
            evict(folder.parent, CACHE_BYTES, name=FILE, spare=folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return copies


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


@lru_cache(maxsize=64)
def _waves(length: int) -> Floats:
    """Return the lowest basis functions of the cosine transform, (WAVES, length)."""
    places = (np.arange(length) + 0.5) / length
    return np.asarray(np.cos(np.pi * np.outer(np.arange(WAVES), places)) / length, np.float32)


@lru_cache(maxsize=64)
def _means(length: int, side: int) -> Floats:
    """Return the matrix, (side, length), that averages over `side` equal intervals."""
    edges = np.linspace(0, length, side + 1)
    covered = np.minimum(edges[1:, None], np.arange(1, length + 1)) - np.maximum(
        edges[:-1, None], np.arange(length)
    )
    return np.asarray(np.maximum(covered, 0) * (side / length), np.float32)


def _transform(images: Images, down: Floats, across: Floats) -> Floats:
    """Return `down @ image @ across.T` of each channel, (count, rows, channels, columns)."""
    count, height, width, channels = images.shape
    rows = down @ images.reshape(count, height, width * channels).astype(np.float32)
    each = rows.reshape(count, len(down), width, channels).swapaxes(2, 3)
    return np.asarray(each @ across.T, np.float32)


def hashes(images: Images) -> Hashes:
    """Compute the hashes, uint64 (count,), of images, uint8 (count, height, width, channels)."""
    _, height, width, channels = images.shape
    amplitudes = _transform(images, _waves(height), _waves(width))
    grey = np.tensordot(amplitudes, GREY, (2, 0)) if channels == 3 else amplitudes.mean(axis=2)
    bits = np.stack([grey[:, down, across] > NOISE for down, across in LOWEST], axis=1)
    packed: Hashes = np.packbits(bits, axis=1, bitorder="little").view(np.uint64)[:, 0]
    return packed


def thumbnails(images: Images, side: int) -> Floats:
    """Compute thumbnails with mean 0 and Euclidean norm 1, float32 (count, side, channels, side).

    The inner product of two thumbnails is therefore their correlation. The thumbnail of a flat
    image is 0 everywhere.

    Args:
        images: uint8 (count, height, width, channels).
        side: the height and width of the thumbnails, in pixels.
    """
    small = _transform(images, _means(images.shape[1], side), _means(images.shape[2], side))
    small -= small.mean(axis=(1, 2, 3), keepdims=True)
    length = np.sqrt(np.square(small).sum(axis=(1, 2, 3), keepdims=True))
    is_flat = length < FLAT * np.sqrt(small[0].size)
    return np.asarray(np.where(is_flat, 0, small / np.maximum(length, 1e-9)), np.float32)


class _Thumbnails:
    """Thumbnails of images, which are numbered across all parts.

    An image may be in many pairs, and reading it from the disk takes long. Therefore thumbnails
    that are needed again are stored, in memory or in a file, if there is room.
    """

    def __init__(self, parts: Sequence[Part], side: int) -> None:
        self.parts, self.side = parts, side
        self.starts = np.cumsum([0, *map(len, parts)])
        self.stored: Rows = np.empty(0, np.int64)
        self.table: Floats | None = None

    def store(self, rows: Rows) -> None:
        """Store the thumbnails of these images, in ascending order, if there is room for all."""
        self.stored = rows
        table = _allocate((len(rows), self.side, self.parts[0].shape[-1], self.side))
        if table is not None:
            for first in range(0, len(rows), BATCH):
                table[first : first + BATCH] = self.of(rows[first : first + BATCH])
        self.table = table

    def of(self, rows: Rows) -> Floats:
        """Return the thumbnails of these images, in ascending order.

        Unless they are stored, the images are read a few MB at a time.
        """
        if self.table is not None:
            return np.asarray(self.table[np.searchsorted(self.stored, rows)])
        batches = []
        for part, start in zip(self.parts, self.starts, strict=False):
            own = rows[(rows >= start) & (rows < start + len(part))] - start
            step = max(1, CHUNK // max(1, part.size // max(1, len(part))))
            for first in range(0, len(own), step):
                some = part.take(own[first : first + step])
                batches += [thumbnails(images, self.side) for images in _batches(some)]
        return np.concatenate(batches)


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


def _likeness(thumbs: _Thumbnails, distinct: Rows) -> float:
    """Return the likeness of the data: the 90th percentile of correlations between two images.

    It is measured on a sample of the distinct images. If there is only one image, it is 1.
    """
    sample = distinct[np.unique(np.linspace(0, len(distinct) - 1, SAMPLE).astype(int))]
    vectors = thumbs.of(sample).reshape(len(sample), -1)
    pairs = (vectors @ vectors.T)[np.triu_indices(len(sample), 1)]
    return float(np.percentile(pairs, 90)) if len(pairs) else 1.0


def _find_candidates(image_hashes: Hashes, distance: int) -> tuple[Rows, Rows]:
    """Return the pairs of similar images, and the pairs of an image and a similar mirror image.

    Both are (pairs, 2), indices into `image_hashes`. Two images are similar if their hashes differ
    in at most `distance` bits. To find mirror images, each hash is also compared with the hashes of
    the mirrored images, which are numbered from `count`.
    """
    count = len(image_hashes)
    all_hashes = np.concatenate([image_hashes, image_hashes ^ MIRROR])
    keys = [np.empty(0, np.int64)]
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
    low, high = np.divmod(np.unique(np.concatenate(keys)), 2 * count)
    is_plain = high < count
    mirror_high = high - count
    crossed = np.minimum(low, mirror_high) * count + np.maximum(low, mirror_high)
    turned = np.stack(np.divmod(np.unique(crossed[~is_plain]), count), axis=1)
    return np.stack([low, high], axis=1)[is_plain], turned[turned[:, 0] < turned[:, 1]]


def _verify(thumbs: _Thumbnails, pairs: Rows, similarity: float, *, mirror: bool = False) -> Rows:
    """Return the first `MAX_PAIRS` pairs whose thumbnails correlate by at least `similarity`.

    With `mirror`, the second image of each pair is mirrored first.
    """
    verified = [np.empty((0, 2), np.int64)]
    for first in range(0, len(pairs), BATCH):
        batch = pairs[first : first + BATCH]
        rows, places = np.unique(batch, return_inverse=True)
        first_thumbs, second_thumbs = thumbs.of(rows)[places.reshape(-1, 2).T]
        second_thumbs = second_thumbs[..., ::-1] if mirror else second_thumbs
        verified.append(batch[(first_thumbs * second_thumbs).sum(axis=(1, 2, 3)) >= similarity])
        if sum(map(len, verified)) > MAX_PAIRS:
            break
    return np.concatenate(verified)[:MAX_PAIRS]
