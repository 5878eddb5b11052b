"""How often the 95 % interval of a metric of masks covers its value on all images of its kind.

Made-up images differ in the size of what they show and in how well a model finds it: the share of
an image that is foreground, and the shares of both classes that are found, are drawn from beta
distributions. Pixels of one image go together, as in real masks, so the images are what counts.
"""

from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from search.values.statistics import interval_of
from tests.bench.rates.case import Case, Promise
from trainables.tasks.segmentation.entry import ENTRY as SEGMENTATION
from trainables.tasks.segmentation.metrics import epoch_values

METRICS = SEGMENTATION.metrics
PROMISES = {metric.title: Promise("interval", 0.95) for metric in METRICS}
PIXELS, MANY = 10_000, 400_000
"""The pixels of an image, and the number of images whose value is the true one."""


@dataclass(frozen=True)
class Masks:
    """How images, and a model's masks of them, vary."""

    size: tuple[float, float]
    """The beta distribution of the share of an image that is foreground."""
    found: tuple[float, float]
    """That of the share of the foreground that is found; also of the boundary F1."""
    empty: float = 0.0
    """The share of images without foreground."""

    def draw(
        self, images: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Draw the counts of pixels, (images, 2, 2), and the boundary F1 of each, (images,)."""
        is_empty = generator.random(images) < self.empty
        front = np.where(is_empty, 0, PIXELS * generator.beta(*self.size, images)).astype(int)
        hit = (front * generator.beta(*self.found, images)).astype(int)
        false = ((PIXELS - front) * generator.beta(1, 60, images)).astype(int)
        counts = np.empty((images, 2, 2), np.int64)
        counts[:, 1, 1], counts[:, 1, 0] = hit, front - hit
        counts[:, 0, 1], counts[:, 0, 0] = false, PIXELS - front - false
        return counts, generator.beta(*self.found, images)


def measured(counts: NDArray[np.int64], boundaries: NDArray[np.float64]) -> dict[str, float]:
    """Return every metric as an epoch reports it, with its error."""
    values: dict[str, float] = {}
    for metric in METRICS:
        values |= epoch_values(counts, boundaries, metric)
    return values


@cache
def truth_of(masks: Masks) -> dict[str, float]:
    """Return every metric on very many images."""
    counts, boundaries = masks.draw(MANY, np.random.default_rng(2))
    pooled = counts.sum(axis=0, keepdims=True)
    return measured(pooled, boundaries) | {"val/boundary_f1": float(boundaries.mean())}


def play(masks: Masks, images: int, generator: np.random.Generator) -> dict[str, bool | None]:
    """Measure masks of so many images: which of the intervals that are stated cover the truth?"""
    values, truth = measured(*masks.draw(images, generator)), truth_of(masks)
    covered: dict[str, bool | None] = {}
    for metric in METRICS:
        bounds = interval_of(metric, values, images)
        is_inside = bounds is not None and bounds[0] <= truth[metric.key] <= bounds[1]
        covered[metric.title] = None if bounds is None else is_inside
    return covered


def cases() -> list[Case]:
    """Return the cases: objects of like and of unlike size, rare ones, and few to many images."""
    kinds = {
        "objects of like size, found well": Masks((20, 80), (30, 3)),
        "objects of like size, found badly": Masks((20, 80), (2, 2)),
        "objects of unlike size": Masks((0.7, 4), (6, 1.5)),
        "objects of unlike size, half of the images empty": Masks((0.7, 4), (6, 1.5), 0.5),
        "small objects": Masks((0.5, 60), (3, 1)),
    }
    return [
        Case("intervals", f"{title}, {images:,} images", PROMISES, partial(play, masks, images))
        for title, masks in kinds.items()
        for images in (12, 20, 60, 300)
    ]
