"""Maps that explain a model by its predictions only, and the faithfulness of any map.

Images are uint8 (images, height, width, channels), in the size of the training images. This module
does not import torch, so that a server can use it.

Faithfulness: does the prediction change where the map says that it depends on it? It is measured by
insertion minus deletion (Petsiuk et al. 2018, "RISE", section 4.1). Insertion is the mean
probability of the class while pixels appear in a blurred image, those with the highest values
first; deletion is the mean while they are replaced by the mean colour. A map is compared with
random maps on the same image: the map itself, mirrored and shifted at random, so that they have the
same values and the same smoothness. Random pixels would be a poor comparison: scattered over the
image, they destroy it as noise does, wherever the object is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from trainables.datasets.arrays import Images
from trainables.datasets.splits import Rows
from trainables.progress import step

if TYPE_CHECKING:
    from trainables.explanations.explain import Logits

Floats = NDArray[np.float64]
Maps = NDArray[np.float64]
"""Maps, (images, height, width); higher values support the class more."""
Numbers = NDArray[np.int64]
"""Class numbers, (images,)."""

BATCH = 128
"""The number of images for which a model computes its predictions at once."""


@dataclass(frozen=True)
class ExplainableModel:
    """A trained classifier whose predictions can be explained."""

    predict_batch: Callable[[Images], Floats]
    """Computes class probabilities, (images, classes)."""
    networks: "Sequence[Logits]"
    """The networks of the model, more than one with folds; empty for a baseline without any."""
    fill: NDArray[np.uint8]
    """The mean colour of the training images, (channels,), which stands for missing pixels."""

    def predict(self, images: Images) -> Floats:
        """Compute class probabilities, (images, classes), batch by batch."""
        return np.concatenate(
            [
                self.predict_batch(np.ascontiguousarray(images[first : first + BATCH]))
                for first in range(0, len(images), BATCH)
            ]
        )


SQUARES = 11
"""The number of positions of the covering square along a side of the image."""
SQUARE_SHARE = 0.2
"""The side of the square as a share of the image's side: neighbouring squares overlap by half."""


def occlusion(model: ExplainableModel, images: Images, classes: Numbers) -> Maps:
    """Compute the mean drop of the class's probability over the squares that cover a pixel.

    The squares have the mean colour of the training images (Zeiler and Fergus 2014, section 4.2).
    """
    height, width = images.shape[1:3]
    squares = [(rows, columns) for rows in _intervals(height) for columns in _intervals(width)]
    maps, covers = np.zeros(images.shape[:3]), np.zeros((height, width))
    before = model.predict(images)[np.arange(len(images)), classes]
    for rows, columns in squares:
        covers[rows, columns] += 1
    for number, image in enumerate(images):
        covered = np.repeat(image[None], len(squares), axis=0)
        for place, (rows, columns) in enumerate(squares):
            covered[place, rows, columns] = model.fill
        drops = before[number] - model.predict(covered)[:, classes[number]]
        for drop, (rows, columns) in zip(drops, squares, strict=True):
            maps[number, rows, columns] += drop
    return maps / covers


def _intervals(side: int) -> list[slice]:
    """Return intervals that cover a side; those at the ends are cut off."""
    length = max(1, round(SQUARE_SHARE * side))
    centres = np.unique(np.linspace(0, side - 1, SQUARES).round().astype(int))
    starts = [int(centre) - (length - 1) // 2 for centre in centres]
    return [slice(max(0, start), min(side, start + length)) for start in starts]


FRACTIONS = np.array([0, 0.05, 0.1, 0.2, 0.35, 0.6, 1])
"""The shares of pixels that are inserted or deleted, denser where the first pixels matter.

At the first and the last one, all maps have the same pixels.
"""
RANDOM_MAPS = 19
"""The number of random maps for each image.

A map whose place has nothing to do with the image has the highest score of 20 maps with probability
1 / 20, because they are exchangeable.
"""
LEAST_GAIN = 0.05
"""The smallest difference between scores (probabilities) that makes a map better than others.

Without it, the maps of an untrained network pass: they fit its predictions, which hardly vary. In
`docs/benchmarks.md`, faithful maps of a trained network exceed random ones by about 0.5, those of
an untrained network by at most 0.01.
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


@dataclass(frozen=True)
class Faithfulness:
    """Scores of maps, and those of random maps on the same images."""

    scores: Scores
    random_scores: Floats
    """(random maps, images)."""

    @property
    def is_faithful(self) -> NDArray[np.bool_]:
        """True for each map with the highest score, by `LEAST_GAIN` above the mean, (images,)."""
        scores, rivals = self.scores.values, self.random_scores
        is_faithful: NDArray[np.bool_] = (scores > rivals.max(axis=0)) & (
            scores - rivals.mean(axis=0) >= LEAST_GAIN
        )
        return is_faithful


class MapScorer:
    """Computes insertion and deletion of maps of the same images.

    What all maps have in common is computed once: the predictions for the whole image, the blurred
    one, and the mean colour.
    """

    def __init__(
        self, model: ExplainableModel, images: Images, classes: Numbers, seed: int = 0
    ) -> None:
        """Compute the predictions that all maps have in common.

        Args:
            model: the model that is explained.
            images: the images.
            classes: the class that each map explains.
            seed: determines the order of pixels with equal values.
        """
        self.model, self.images, self.classes = model, images, classes
        self._blurred = _blurred(images)
        self._filled = np.broadcast_to(model.fill, images.shape)
        self._generator = np.random.default_rng(seed)
        ends = (self._blurred, images, self._filled)
        self._blurred_chance, self._chance, self._filled_chance = (
            self._predict(pixels, classes) for pixels in ends
        )

    def _predict(self, pixels: Images, classes: Numbers) -> Floats:
        return self.model.predict(pixels)[np.arange(len(pixels)), classes]

    def score(self, maps: Maps, rows: Rows | None = None) -> Scores:
        """Compute the scores of maps.

        Args:
            maps: the maps.
            rows: the images that these explain; None for all.
        """
        chosen = np.arange(len(self.images)) if rows is None else rows
        parts = [
            self._score_chunk(maps[first : first + CHUNK], chosen[first : first + CHUNK])
            for first in range(0, len(chosen), CHUNK)
        ]
        return Scores(*np.concatenate(parts, axis=1))

    def _score_chunk(self, maps: Maps, rows: Rows) -> Floats:
        """Compute insertion and deletion of maps of the images `rows`, (2, rows)."""
        images, inner = self.images[rows], len(FRACTIONS) - 2
        revealed = _revealed_pixels(maps, self._generator)
        inserted = np.where(revealed, images, self._blurred[rows])
        deleted = np.where(revealed, self._filled[rows], images)
        copies = np.stack([inserted, deleted]).reshape(-1, *images.shape[1:])
        chances = self._predict(copies, np.tile(self.classes[rows], 2 * inner))
        middle = chances.reshape(2, inner, len(rows))
        whole = self._chance[rows]
        ends = ((self._blurred_chance[rows], whole), (whole, self._filled_chance[rows]))
        areas = [
            np.trapezoid(np.stack([start, *curve, end]), FRACTIONS, axis=0)
            for curve, (start, end) in zip(middle, ends, strict=True)
        ]
        return np.stack(areas)


def judge_faithfulness(scorer: MapScorer, maps: Maps, seed: int = 0) -> Faithfulness:
    """Compare maps with random maps of the same images.

    Args:
        scorer: the scorer for these images.
        maps: a map of each image.
        seed: determines the random maps.
    """
    generator, each = np.random.default_rng(seed), []
    with step("comparing with random maps", RANDOM_MAPS + 1) as advance:
        scores = scorer.score(maps)
        advance()
        for _ in range(RANDOM_MAPS):
            each.append(scorer.score(random_maps(maps, generator)).values)
            advance()
    return Faithfulness(scores, np.stack(each))


def _revealed_pixels(maps: Maps, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Return the pixels with the highest values, (inner fractions, images, height, width, 1)."""
    flat = maps.reshape(len(maps), -1)
    # Pixels with equal values are revealed in random order, not from the top to the bottom.
    shuffled = generator.permutation(flat.shape[1])
    order = shuffled[np.argsort(-flat[:, shuffled], axis=1, kind="stable")]
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(flat.shape[1])[None], axis=1)
    counts = np.round(FRACTIONS[1:-1] * flat.shape[1])
    revealed: NDArray[np.bool_] = ranks.reshape(maps.shape) < counts[:, None, None, None]
    return revealed[..., None]


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
