"""The faithfulness of maps: does the prediction change where the map says that it depends on it?

Insertion minus deletion (Petsiuk et al. 2018, "RISE", section 4.1). Insertion is the mean
probability of the class while pixels appear in a blurred image, those with the highest values
first; deletion is the mean while they are replaced by the mean colour. A map is compared with
random maps on the same image: the map itself, mirrored and shifted at random, so that they have the
same values and the same smoothness. Random pixels would be a poor comparison: scattered over the
image, they destroy it as noise does, wherever the object is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from trainables.datasets.arrays import Images
from trainables.explanations.explainable import ExplainableModel, Floats, Maps, Numbers

FRACTIONS = np.linspace(0, 1, 11)
"""The shares of pixels that are inserted or deleted."""
RANDOM_MAPS = 9
"""The number of random maps for each image.

A map whose place has nothing to do with the image has the highest score of 10 maps with probability
1 / 10, because they are exchangeable.
"""
BLUR_SHARE = 1 / 12
"""The standard deviation of the blur, as a share of the image's shorter side."""
CHUNK = 16
"""The number of images whose changed copies are in memory at once."""


@dataclass(frozen=True)
class Scores:
    """Insertion, deletion and their difference for each image, (images,)."""

    insertion: Floats
    deletion: Floats

    @property
    def values(self) -> Floats:
        """Insertion minus deletion; higher is better."""
        return self.insertion - self.deletion


def score_maps(
    model: ExplainableModel, images: Images, classes: Numbers, maps: Maps, seed: int
) -> Scores:
    """Compute insertion and deletion of maps.

    Args:
        model: the model that is explained.
        images: the images.
        classes: the class that each map explains.
        maps: the maps.
        seed: determines the order of pixels with equal values.
    """
    insertion, deletion = np.zeros(len(images)), np.zeros(len(images))
    for first in range(0, len(images), CHUNK):
        own = slice(first, first + CHUNK)
        revealed = _revealed_pixels(maps[own], np.random.default_rng((seed, first)))
        for target, background, is_revealed in (
            (insertion, _blurred(images[own]), revealed),
            (deletion, np.broadcast_to(model.fill, images[own].shape), ~revealed),
        ):
            copies = np.where(is_revealed[..., None], images[own], background[None])
            flat = copies.reshape(-1, *images.shape[1:])
            chances = model.predict(flat)[
                np.arange(len(flat)), np.tile(classes[own], len(FRACTIONS))
            ]
            curves = chances.reshape(len(FRACTIONS), -1)
            target[own] = np.trapezoid(curves, FRACTIONS, axis=0)
    return Scores(insertion, deletion)


def _revealed_pixels(maps: Maps, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Return the pixels with the highest values, (fractions, images, height, width)."""
    flat = maps.reshape(len(maps), -1)
    order = np.lexsort((generator.random(flat.shape), -flat), axis=1)
    ranks = np.argsort(order, axis=1).reshape(maps.shape)
    counts = np.round(FRACTIONS * flat.shape[1])
    revealed: NDArray[np.bool_] = ranks[None] < counts[:, None, None, None]
    return revealed


def _blurred(images: Images) -> Images:
    deviation = BLUR_SHARE * min(images.shape[1:3])
    blurred = gaussian_filter(images.astype(np.float32), (0, deviation, deviation, 0))
    result: Images = np.round(blurred).astype(np.uint8)
    return result


def random_maps(maps: Maps, generator: np.random.Generator) -> Maps:
    """Mirror and shift each map at random; what leaves at an edge enters at the opposite one."""
    height, width = maps.shape[1:]
    moved = np.empty_like(maps)
    for number, values in enumerate(maps):
        flips = tuple(axis for axis in (0, 1) if generator.random() < 0.5)
        shift = int(generator.integers(height)), int(generator.integers(width))
        moved[number] = np.roll(np.flip(values, flips), shift, (0, 1))
    return moved
