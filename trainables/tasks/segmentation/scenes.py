"""Drawn scenes: handwritten digits on textures, with the exact mask of each.

The digits are those of scikit-learn (8 x 8), enlarged two to four times. Their ten classes are
grouped into two, because a small network that is trained for a minute sees each digit too rarely to
tell ten apart: `round` digits have a closed loop (0, 6, 8, 9), `open` ones have none. Digits of the
test scenes are never used in training scenes. The scenes are the same in each process.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.config import DataConfig
from trainables.datasets.arrays import Decoded, Images, Part

SIDE, TRAIN, TEST = 64, 250, 100
"""The side of a scene in pixels, and the number of training and test scenes."""
CLASSES = ("background", "round", "open")
ROUND = (0, 6, 8, 9)
SEED = 20
LARGEST_DIGIT = 32
"""The side of the largest digit in pixels; each is within a cell of a grid of this width."""
SHARE = 0.6
"""The probability that a cell contains a digit."""

Floats = NDArray[np.float64]


def files(config: DataConfig) -> list[Path]:
    """Return an empty list, because the digits are part of scikit-learn."""
    return []


def load(config: DataConfig, *, download: bool) -> Decoded:
    """Draw the scenes; `data.image_size` does not change them."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    generator = np.random.default_rng(SEED)
    order = generator.permutation(len(bunch.images))
    digits = bunch.images[order] / 16
    numbers = np.where(np.isin(bunch.target[order], ROUND), 1, 2)
    share = len(digits) * TRAIN // (TRAIN + TEST)
    return Decoded(
        CLASSES,
        _draw_scenes(TRAIN, digits[:share], numbers[:share], generator),
        _draw_scenes(TEST, digits[share:], numbers[share:], generator),
    )


def _draw_scenes(
    count: int, digits: Floats, numbers: NDArray[np.int64], generator: np.random.Generator
) -> Part:
    """Draw scenes with some of these digits, which have these class numbers."""
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    masks = np.zeros((count, SIDE, SIDE), np.uint8)
    corners = range(0, SIDE, LARGEST_DIGIT)
    for image, mask in zip(images, masks, strict=True):
        cover = np.zeros((SIDE, SIDE))
        for row in corners:
            for column in corners:
                if generator.random() < SHARE:
                    number = int(generator.integers(len(digits)))
                    digit = _enlarge(digits[number], int(generator.integers(2, 5)))
                    down, across = generator.integers(0, LARGEST_DIGIT + 1 - len(digit), 2)
                    place = (
                        slice(row + down, row + down + len(digit)),
                        slice(column + across, column + across + len(digit)),
                    )
                    cover[place] = digit
                    mask[place][digit >= 0.5] = numbers[number]
        image[...] = _paint(cover, generator)
    return Part(images, masks)


def _enlarge(digit: Floats, times: int) -> Floats:
    """Enlarge a digit bilinearly, (8 * times, 8 * times)."""
    size = len(digit)
    places = (np.arange(size * times) + 0.5) / times - 0.5
    weights = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size)))
    weights /= weights.sum(axis=1, keepdims=True)
    enlarged: Floats = weights @ digit @ weights.T
    return enlarged


def _paint(cover: Floats, generator: np.random.Generator) -> Images:
    """Paint a scene, uint8 (side, side, 3): digits of one colour over a texture of another.

    The colours differ in brightness, in either direction.
    """
    texture = sum(
        _enlarge(generator.normal(0, 1, (side, side)), SIDE // side) for side in (4, 16, SIDE)
    )
    ground = generator.uniform(60, 195, 3)
    contrast = generator.uniform(70, 110) * generator.choice([-1, 1])
    ink = ground + contrast + generator.uniform(-25, 25, 3)
    painted = ground + (ink - ground) * cover[..., None] + 12 * np.asarray(texture)[..., None]
    noisy = painted + generator.normal(0, 6, painted.shape)
    pixels: Images = noisy.clip(0, 255).astype(np.uint8)
    return pixels
