"""Perceptual hashes and thumbnails of images, to find copies that differ slightly.

The hash has one bit for each of 64 low frequencies of the discrete cosine transform. A bit is set
if the amplitude of its frequency is positive. The hash does not depend on brightness and contrast,
and hardly on size and compression. The hash of the mirrored image follows from that of the image,
because mirroring inverts the sign of each odd horizontal frequency.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]
Hashes = NDArray[np.uint64]

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
    if images.shape[1:3] == (side, side):
        small = images.swapaxes(2, 3).astype(np.float32)
    else:
        small = _transform(images, _means(images.shape[1], side), _means(images.shape[2], side))
    small -= small.mean(axis=(1, 2, 3), keepdims=True)
    length = np.sqrt(np.square(small).sum(axis=(1, 2, 3), keepdims=True))
    is_flat = length < FLAT * np.sqrt(small[0].size)
    return np.asarray(np.where(is_flat, 0, small / np.maximum(length, 1e-9)), np.float32)


def mirror_thumbnails(thumbs: Floats) -> Floats:
    """Return the thumbnails of the horizontally mirrored images."""
    return thumbs[..., ::-1]
