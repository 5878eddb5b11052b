"""How often the 95 % interval of mean average precision covers its value on all images of its kind.

    python -m tests.bench.rates.intervals_of_boxes    # also the widths and the biases, as a table

Made-up images have objects of three classes, and the boxes that a detector might find: it misses
some objects, finds some twice or with a wrong class, and finds some where there are none. An image
is easy or difficult as a whole: the scores and the misses of its objects go together.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.values.statistics import interval_of
from tests.bench.rates.case import Case, Promise, Tally
from trainables.tasks.detection.entry import ENTRY as DETECTION
from trainables.tasks.detection.metrics import (
    Matches,
    Precision,
    freedom,
    matches_of,
    standard_errors,
)
from trainables.tasks.detection.predictor import Detections
from trainables.tasks.detection.values import COLUMNS, Boxes

METRICS = DETECTION.metrics
PROMISES = {metric.title: Promise("interval", 0.95) for metric in METRICS}
MANY = 20_000
"""The number of images whose value is the true one, and from which samples are drawn."""
SIDE = 320
SAMPLE_SIZES = (20, 50, 100, 400)
REPETITIONS = 300


@dataclass(frozen=True)
class Scenes:
    """How images vary, and how well a detector finds their objects."""

    rates: tuple[float, ...] = (1.5, 0.8, 0.1)
    """The mean number of objects of each class in an image."""
    clustering: float = 0.3
    """The variance of the number of objects of an image, relative to its square, beyond chance."""
    found: float = 2.5
    """The logit of the share of objects that are found, in an average image."""
    noise: float = 0.06
    """The standard deviation of an edge that is found, as a share of the object's side."""
    lead: float = 3.0
    """The logit of scores of objects, above that of boxes around nothing."""
    false: float = 0.8
    """The mean number of boxes around nothing."""
    confused: float = 0.04
    """The share of found objects with a wrong class; as many are found twice."""

    def draw(
        self, images: int, generator: np.random.Generator
    ) -> tuple[list[Detections], list[Boxes]]:
        """Draw the boxes that are found in each image, the surest first, and the true ones."""
        pairs = [self._draw_image(generator) for _ in range(images)]
        return [detections for detections, _ in pairs], [truth for _, truth in pairs]

    def _draw_image(self, generator: np.random.Generator) -> tuple[Detections, Boxes]:
        ease = generator.normal()
        factor = generator.gamma(1 / self.clustering, self.clustering) if self.clustering else 1.0
        counts = generator.poisson(factor * np.array(self.rates))
        truth = np.zeros((counts.sum(), COLUMNS), np.float32)
        truth[:, 4] = np.repeat(np.arange(len(counts)), counts)
        truth[:, :4] = _draw_places(len(truth), generator)
        chances = 1 / (1 + np.exp(-self.found - ease))
        rows = np.flatnonzero(generator.random(len(truth)) < chances)
        rows = np.concatenate([rows, rows[generator.random(len(rows)) < self.confused]])
        own = truth[rows].astype(np.float64)
        sides = np.tile(own[:, 2:4] - own[:, :2], 2)
        shifts = generator.normal(0, self.noise, (len(own), 4))
        is_wrong = generator.random(len(own)) < self.confused
        classes = generator.integers(len(counts), size=len(own))
        logits = self.lead + ease - 5 * np.abs(shifts).sum(axis=1)
        false = generator.poisson(self.false)
        shares = np.array(self.rates) / sum(self.rates)
        edges = [own[:, :4] + shifts * sides, _draw_places(false, generator)]
        numbers = [
            np.where(is_wrong, classes, own[:, 4]),
            generator.choice(len(counts), false, p=shares),
        ]
        noisy = np.concatenate([logits, np.zeros(false)])
        scores = 1 / (1 + np.exp(1 - noisy - generator.normal(size=len(noisy))))
        detections = np.column_stack([np.concatenate(edges), scores, np.concatenate(numbers)])
        return detections[np.argsort(-scores)], truth


def _draw_places(count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw boxes of all sizes from 10 to 100 pixels within an image, (count, 4)."""
    sides = 10 ** generator.uniform(1, 2, (count, 2))
    start = generator.random((count, 2)) * (SIDE - sides)
    return np.hstack([start, start + sides])


EASY, HARD = Scenes(), Scenes(found=0.8, noise=0.12, lead=1.5, false=2.0, confused=0.1)
KINDS = {
    "found well, one class in a tenth of the images": EASY,
    "found badly, one class in a tenth of the images": HARD,
    "found well, no rare class": Scenes(rates=(1.5, 0.8, 0.8)),
    "found badly, most objects in few images": Scenes(
        clustering=3.0, found=0.8, noise=0.12, lead=1.5, false=2.0, confused=0.1
    ),
}


@cache
def population_of(scenes: Scenes) -> tuple[list[Matches], Precision]:
    """Return the matches of each class in very many images, and the true values."""
    generator = np.random.default_rng(2)
    detections, truths = scenes.draw(MANY, generator)
    matches = matches_of(detections, truths, len(scenes.rates))
    return matches, Precision.of(matches)


def sample_of(population: Sequence[Matches], rows: NDArray[np.int64]) -> list[Matches]:
    """Return the matches in some of the images, which are numbered again."""
    places = np.full(MANY, -1)
    places[rows] = np.arange(len(rows))
    each = []
    for own in population:
        images = places[own.images]
        is_in = images >= 0
        each.append(
            Matches(
                images[is_in],
                own.scores[is_in],
                own.right[is_in],
                own.ignored[is_in],
                own.objects[rows],
            )
        )
    return each


class Estimate(NamedTuple):
    """A value on a sample of images, its interval, and the true value."""

    value: float
    low: float
    high: float
    truth: float

    @property
    def covers(self) -> bool:
        """True if the truth is within the interval."""
        return self.low <= self.truth <= self.high


def estimate(
    scenes: Scenes, images: int, generator: np.random.Generator
) -> dict[str, Estimate | None]:
    """Measure a sample of images as an epoch does: an estimate for the title of each metric."""
    population, truth = population_of(scenes)
    sample = sample_of(population, generator.choice(MANY, images, replace=False))
    values, errors = Precision.of(sample), standard_errors(sample)
    estimates: dict[str, Estimate | None] = {}
    for metric in METRICS:
        value = getattr(values, metric.name)
        measured = {
            metric.key: value,
            metric.error_key: getattr(errors, metric.name),
            metric.freedom_key: float(freedom(sample)),
        }
        bounds = interval_of(metric, measured, images)
        own_truth = getattr(truth, metric.name)
        estimates[metric.title] = bounds and Estimate(value, *bounds, own_truth)
    return estimates


def play(scenes: Scenes, images: int, generator: np.random.Generator) -> dict[str, bool | None]:
    """Check which of the intervals of a sample of images cover the truth."""
    estimates = estimate(scenes, images, generator)
    return {title: own and own.covers for title, own in estimates.items()}


def cases() -> list[Case]:
    """Return the cases: detectors of each kind, on few to many images."""
    return [
        Case(
            "intervals",
            f"boxes {title}, {images:,} images",
            PROMISES,
            partial(play, scenes, images),
            REPETITIONS,
        )
        for title, scenes in KINDS.items()
        for images in SAMPLE_SIZES
    ]


def rows_of(kind: str, images: int) -> list[str]:
    """Return the rows of the table for a kind of images and a size of samples."""
    streams = np.random.SeedSequence(images).spawn(REPETITIONS)
    each = [estimate(KINDS[kind], images, np.random.default_rng(stream)) for stream in streams]
    rows = []
    for title in PROMISES:
        estimates = [own for draw in each if (own := draw[title]) is not None]
        if not estimates:
            rows.append(f"| {kind} | {images} | {title} | no interval is stated |")
            continue
        values, low, high, truth = np.array(estimates).T
        tally = Tally(sum(own.covers for own in estimates), len(estimates))
        least, most = tally.interval
        rows.append(
            f"| {kind} | {images} | {title} | {truth[0]:.3f} | {100 * tally.share:.1f} % "
            f"({100 * least:.1f} to {100 * most:.1f}) of {len(estimates)} | "
            f"{(high - low).mean():.3f} | "
            f"{(values - truth).mean():+.4f} | {values.std(ddof=1):.4f} | "
            f"{(truth < low).sum()} / {(truth > high).sum()} |"
        )
    return rows


def main() -> None:
    """Print the coverage, the mean width and the mean bias of each case."""
    print(
        "| images | n | metric | truth | coverage | mean width | mean bias | standard deviation | "
        "truth below / above |"
    )
    print(f"|{'---|' * 9}", flush=True)
    each = list(product(KINDS, SAMPLE_SIZES))
    with ProcessPoolExecutor(2) as pool:
        for rows in pool.map(rows_of, *zip(*each, strict=True)):
            print("\n".join(rows), flush=True)


if __name__ == "__main__":
    main()
