"""Drawn scenes for detection: handwritten digits on textures, with the exact box of each.

The digits are those of scikit-learn (8 x 8), enlarged two to four times. As in `scenes`, they are
grouped into two classes, because a small network that is trained for a minute sees each of the ten
too rarely: `round` digits have a closed loop (0, 6, 8, 9), `open` ones have none. Digits of the
test scenes are never used in training scenes. A few scenes are empty.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.config import DataConfig
from trainables.datasets.arrays import Decoded, Images, Part, Ragged
from trainables.datasets.images import resize
from trainables.tasks.detection.values import COLUMNS, Boxes

SIDE, TRAIN, TEST = 96, 300, 100
"""The side of a scene in pixels, and the number of training and test scenes."""
CLASSES = ("round", "open")
ROUND = (0, 6, 8, 9)
SEED = 41
FACTORS = (2, 4)
"""The least and the largest factor by which a digit is enlarged."""
MOST_DIGITS, TRIES = 5, 20
"""The maximum number of digits in a scene, and of tries to place one beside the others."""
VISIBLE = 0.35
"""The share of the strongest ink from which on a pixel belongs to the digit."""

Floats = NDArray[np.float64]


def files(config: DataConfig) -> list[Path]:
    """Return an empty list, because the digits are part of scikit-learn."""
    return []


def load(config: DataConfig, *, download: bool) -> Decoded:
    """Draw the scenes; with `data.image_size`, they are resized to squares of this side."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    generator = np.random.default_rng(SEED)
    order = generator.permutation(len(bunch.images))
    digits = bunch.images[order] / 16
    numbers = np.where(np.isin(bunch.target[order], ROUND), 0, 1)
    share = len(digits) * TRAIN // (TRAIN + TEST)
    return Decoded(
        CLASSES,
        _resize(draw_scenes(TRAIN, digits[:share], numbers[:share], generator), config.image_size),
        _resize(draw_scenes(TEST, digits[share:], numbers[share:], generator), config.image_size),
    )


def _resize(scenes: Part, side: int | None) -> Part:
    """Resize scenes bilinearly to squares, with their boxes; unchanged if `side` is None."""
    if side is None:
        return scenes
    factors = np.array([side / SIDE] * 4 + [1, 1], np.float32)
    boxes = Ragged.of([each * factors for each in scenes.targets])
    return Part(resize(scenes.images, side), boxes)


def draw_scenes(
    count: int, digits: Floats, numbers: NDArray[np.int64], generator: np.random.Generator
) -> Part:
    """Draw scenes with some of these digits, which have these class numbers."""
    scenes = [_draw_scene(digits, numbers, generator) for _ in range(count)]
    return Part(np.stack([image for image, _ in scenes]), Ragged.of([boxes for _, boxes in scenes]))


def _draw_scene(
    digits: Floats, numbers: NDArray[np.int64], generator: np.random.Generator
) -> tuple[Images, Boxes]:
    cover, boxes = np.zeros((SIDE, SIDE)), list[list[float]]()
    for _ in range(generator.integers(0, MOST_DIGITS + 1)):
        row = generator.integers(len(digits))
        for _ in range(TRIES):
            side = int(8 * generator.uniform(*FACTORS))
            ink = _enlarge(digits[row], side)
            y1, x1 = generator.integers(0, SIDE - side, 2)
            place = slice(y1, y1 + side), slice(x1, x1 + side)
            if not cover[place].any():
                cover[place] = ink
                down, across = np.nonzero(ink > VISIBLE * ink.max())
                boxes.append(
                    [
                        x1 + across.min(),
                        y1 + down.min(),
                        x1 + across.max() + 1,
                        y1 + down.max() + 1,
                        numbers[row],
                        0,
                    ]
                )
                break
    return _paint(cover, generator), np.array(boxes, np.float32).reshape(-1, COLUMNS)


def _enlarge(digit: Floats, side: int) -> Floats:
    """Enlarge a digit by bilinear interpolation."""
    places = (np.arange(side) + 0.5) * len(digit) / side - 0.5
    low = np.clip(np.floor(places).astype(int), 0, len(digit) - 2)
    share = np.clip(places - low, 0, 1)
    rows = digit[low] * (1 - share)[:, None] + digit[low + 1] * share[:, None]
    enlarged: Floats = rows[:, low] * (1 - share) + rows[:, low + 1] * share
    return enlarged


def _paint(cover: Floats, generator: np.random.Generator) -> Images:
    """Paint ink of one colour on a background with waves and noise, (height, width, 3)."""
    down, across = np.mgrid[:SIDE, :SIDE] / SIDE
    paper, ink = generator.uniform(130, 230, 3), generator.uniform(0, 90, 3)
    waves = 14 * np.sin(
        2 * np.pi * (generator.uniform(1, 5) * down + generator.uniform(1, 5) * across)
    )
    background = paper + waves[..., None] + generator.normal(0, 9, (SIDE, SIDE, 3))
    painted = background * (1 - cover[..., None]) + ink * cover[..., None]
    pixels: Images = np.clip(painted, 0, 255).astype(np.uint8)
    return pixels
