"""How often the 95 % interval of a value covers what the model reaches on all images of its kind.

Made-up models give logits: one unit of noise for each class, the logarithm of the class's share,
and a lead of the true class that makes the model as accurate as the case says.
"""

from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from search.values.statistics import interval_of
from tests.bench.rates.case import Case, Promise
from trainables.fairness.groups import count_cells
from trainables.tasks.classification.entry import ENTRY as CLASSIFICATION
from trainables.tasks.metrics import Labels, Probabilities, compute, epoch_metrics

METRICS = CLASSIFICATION.metrics
PROMISES = {metric.title: Promise("interval", 0.95) for metric in METRICS if not metric.is_skewed}
CHUNKS, CHUNK = 20, 100_000
"""The true values are those of at least 3 chunks of so many images, and of more of few classes."""
EVEN, UNEVEN, RARE = (0.5, 0.5), (0.9, 0.1), (0.96, 0.04)
MANY = (1 / 30,) * 30
TAIL = tuple(0.9**number for number in range(30))
"""Of 30 classes; the largest is 21 times as large as the smallest."""


@dataclass(frozen=True)
class Model:
    """A model of known accuracy on images of these classes."""

    mix: tuple[float, ...]
    """The sizes of the classes, in any unit."""
    accuracy: float
    confidence: float = 1.0
    """The factor of its logits; above 1 it is surer than it is right."""

    @property
    def shares(self) -> NDArray[np.float64]:
        """The shares of the classes, (classes,)."""
        return np.array(self.mix) / sum(self.mix)

    def logits(
        self, images: int, generator: np.random.Generator
    ) -> tuple[Labels, NDArray[np.float64]]:
        """Draw class numbers, (images,), and logits without a lead, (images, classes)."""
        labels = generator.choice(len(self.mix), images, p=self.shares)
        return labels, generator.normal(size=(images, len(self.mix))) + np.log(self.shares)

    def answers(self, images: int, generator: np.random.Generator) -> tuple[Labels, Probabilities]:
        """Draw class numbers, (images,), and probabilities of the classes, (images, classes)."""
        labels, logits = self.logits(images, generator)
        logits[np.arange(images), labels] += lead_of(self)
        powers = np.exp(self.confidence * (logits - logits.max(axis=1, keepdims=True)))
        return labels, powers / powers.sum(axis=1, keepdims=True)


@cache
def lead_of(model: Model) -> float:
    """Return the lead of the true class's logit that makes a model as accurate as it is said."""
    labels, logits = model.logits(CHUNK, np.random.default_rng(1))
    rows = np.arange(CHUNK)
    own = logits[rows, labels]
    logits[rows, labels] = -np.inf
    return float(np.quantile(logits.max(axis=1) - own, model.accuracy))


def measured(labels: Labels, chances: Probabilities) -> dict[str, float]:
    """Return every metric as an epoch reports it, with its error."""
    metrics = {"val/accuracy": float((chances.argmax(axis=1) == labels).mean())}
    for metric in METRICS[1:]:
        metrics |= epoch_metrics(metric, compute(metric, labels, chances, None))
    return metrics


@cache
def truth_of(model: Model) -> dict[str, float]:
    """Return every metric of a model on very many images."""
    generator, shares = np.random.default_rng(2), []
    chunks = []
    for _ in range(max(3, CHUNKS // len(model.mix))):
        labels, chances = model.answers(CHUNK, generator)
        chunks.append(measured(labels, chances))
        cells = count_cells(labels, chances.argmax(axis=1) == labels, None)
        shares.append(cells.right / cells.images)
    truth = {key: float(np.mean([chunk[key] for chunk in chunks])) for key in chunks[0]}
    # The mean of the chunks' lowest shares would be too low.
    return truth | {"val/worst_group_accuracy": float(np.mean(shares, axis=0).min())}


def play(model: Model, images: int, generator: np.random.Generator) -> dict[str, bool | None]:
    """Measure a model on so many images: which of the intervals that are stated cover the truth?"""
    metrics, truth = measured(*model.answers(images, generator)), truth_of(model)
    found: dict[str, bool | None] = {}
    for metric in METRICS:
        bounds = interval_of(metric, metrics, images)
        is_inside = bounds is not None and bounds[0] <= truth[metric.key] <= bounds[1]
        found[metric.title] = None if bounds is None else is_inside
    return found


def cases() -> list[Case]:
    """Return the cases: few and many classes and images, of like and of unlike size."""
    kinds = {
        "2 even classes": (EVEN, (0.5, 0.8, 0.9, 0.99), (20, 50, 300, 5000)),
        "2 classes 9:1": (UNEVEN, (0.9, 0.99), (150, 1000, 5000)),
        "2 classes 24:1": (RARE, (0.99,), (20, 400, 1000)),
        "30 even classes": (MANY, (0.5, 0.99), (20, 300, 5000)),
        "30 classes, a long tail": (TAIL, (0.5, 0.99), (20, 1000, 5000)),
    }
    found = [
        _case(f"{title}, accuracy {accuracy:g}, {images:,} images", Model(mix, accuracy), images)
        for title, (mix, accuracies, numbers) in kinds.items()
        for accuracy in accuracies
        for images in numbers
    ]
    for title, mix in (("2 classes 9:1", UNEVEN), ("30 even classes", MANY)):
        name = f"{title}, accuracy 0.9, 300 images, overconfident"
        found.append(_case(name, Model(mix, 0.9, 4.0), 300))
    return found


def _case(title: str, model: Model, images: int) -> Case:
    repetitions = 1000 if len(model.mix) * images <= 10_000 else 500
    return Case("intervals", title, PROMISES, partial(play, model, images), repetitions)
