"""How often a search of data without any signal is called better than guessing.

Validation and test images have class mixes of their own. Each epoch of each trial gives images
probabilities that have nothing to do with their labels: by a taste of the trial for some classes,
and drawn again in each epoch, which is the worst case for whoever takes the best.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.journal.events import Started, Tested
from search.journal.guessing import Guessing
from search.journal.result import SearchResult, TrialResult
from tests.bench.rates.case import Case, Promise
from trainables.catalog.entries import Metric
from trainables.config import TrialConfig
from trainables.tasks.classification.entry import ENTRY as CLASSIFICATION
from trainables.tasks.classification.guesses import guesses_of
from trainables.tasks.metrics import SCORES, epoch_metrics

EPOCHS = 2
PROMISES = {"test": Promise("error rate", 0.05), "validation": Promise("error rate", 0.05)}
Floats = NDArray[np.float64]
EVEN, RARE = (0.5, 0.5), (0.96, 0.04)
LONG_TAIL = tuple(0.85**number for number in range(30))


@dataclass(frozen=True)
class Blind:
    """Searches whose networks cannot tell one image from another."""

    train: Sequence[float]
    """The class mix of the training images, up to a factor."""
    mix: Sequence[float]
    """That of the validation and test images."""
    images: int
    """The number of validation images, and of test images."""
    trials: int
    metric: Metric
    taste: str = "training"
    """The classes that networks prefer: as in the `training` images; `balanced`, all alike, as with
    `train.class_weights=balanced`; or `any`, whichever a trial happens to."""
    noise: float = 1.0
    """How much logits differ from image to image: near 0 the same answer for all, 5 overconfident.
    """
    one_feature: bool = False
    """True if all logits follow one feature of the image, such as its brightness."""

    def result(self, generator: np.random.Generator) -> SearchResult:
        """Play a search, with the test of its best trial."""
        classes = len(self.mix)
        parts = [labels_of(self.train, 3 * self.images, generator)]
        parts += [labels_of(self.mix, self.images, generator) for _ in range(2)]
        counts = [np.bincount(labels, minlength=classes).tolist() for labels in parts]
        guesses = guesses_of([str(number) for number in range(classes)], *counts)
        config = TrialConfig(metric=self.metric.name).to_dict()
        data = {"val": self.images, "guesses": [vars(guess) for guess in guesses]}
        result = SearchResult(started=Started(data=data, experiment={"base": config}))
        tastes = [self.taste_of(counts[0], generator) for _ in range(self.trials)]
        for number, taste in enumerate(tastes):
            epochs = {
                epoch: measured(self.metric, parts[1], self.chances(taste, generator))
                for epoch in range(1, EPOCHS + 1)
            }
            name = f"t{number}"
            result.trials[name] = TrialResult(
                name, {}, config, "completed", epochs=epochs, training_key=name
            )
        best = result.best
        assert best is not None
        chances = self.chances(tastes[int(best.trial[1:])], generator)
        test = evaluated(self.metric, measured(self.metric, parts[2], chances), self.images)
        result.tested = Tested(best.trial, best.best_epoch or 0, test)
        return result

    def taste_of(self, counts: Sequence[int], generator: np.random.Generator) -> Floats:
        """Draw a trial's mean logits, (classes,)."""
        if self.taste == "any":
            return 2 * generator.normal(size=len(counts))
        seen = np.array(counts) + 0.5 if self.taste == "training" else np.ones(len(counts))
        taste: Floats = np.log(seen / seen.sum()) + 0.1 * self.noise * generator.normal(
            size=len(counts)
        )
        return taste

    def chances(self, taste: Floats, generator: np.random.Generator) -> Floats:
        """Draw class probabilities, (images, classes), by taste and chance only."""
        drawn = generator.normal(size=(self.images, 1 if self.one_feature else len(taste)))
        slopes = generator.normal(size=len(taste)) if self.one_feature else 1.0
        logits = taste + self.noise * drawn * slopes
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances: Floats = powers / powers.sum(axis=1, keepdims=True)
        return chances

    def play(self, generator: np.random.Generator) -> dict[str, bool | None]:
        """Judge the best trial of one search by its test, and as if it had none."""
        result = self.result(generator)
        on_test = is_called_better(result)
        result.tested = None
        return {"test": on_test, "validation": is_called_better(result)}


def is_called_better(result: SearchResult) -> bool:
    """Check whether the product calls the best trial better than guessing."""
    guessing, best = Guessing.of(result), result.best
    assert guessing is not None
    assert best is not None
    return not guessing.is_at_chance(best)


def labels_of(
    mix: Sequence[float], images: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw class numbers, (images,), at least one image of each of the first two classes."""
    labels = generator.choice(len(mix), images, p=np.array(mix) / sum(mix))
    labels[:2] = np.arange(2)
    return labels


def measured(metric: Metric, labels: NDArray[np.int64], chances: Floats) -> dict[str, float]:
    """Return what an epoch reports of class probabilities, (images, classes)."""
    right = float((chances.argmax(axis=1) == labels).mean())
    if metric.name not in SCORES:
        return {metric.key: right, "val/loss": 0.0}
    reported = epoch_metrics(metric, SCORES[metric.name](labels, chances))
    return {"val/accuracy": right, "val/loss": 0.0, **reported}


def evaluated(metric: Metric, reported: dict[str, float], images: int) -> dict[str, Any]:
    """Return an evaluation on the test set."""
    evaluation: dict[str, Any] = {"images": images, "accuracy": reported["val/accuracy"]}
    if metric.name in SCORES:
        keys = metric.key, metric.error_key, metric.freedom_key
        evaluation["metric"] = metric.evaluated(*(reported[key] for key in keys))
    return evaluation


def cases() -> list[Case]:
    """Return the cases: every metric on data of every kind; accuracy with more trials too."""
    kinds: dict[str, dict[str, Any]] = {
        "2 even classes, 20 images": {"mix": EVEN, "images": 20},
        "2 even classes, 100 images, nearly constant answers": {
            "mix": EVEN,
            "images": 100,
            "noise": 0.02,
        },
        "2 classes 24:1, 42 images": {"mix": RARE, "images": 42},
        "2 classes 24:1, 500 images, any taste": {"mix": RARE, "images": 500, "taste": "any"},
        "2 classes 9:1 in training, even after, 300 images": {
            "train": (0.9, 0.1),
            "mix": EVEN,
            "images": 300,
        },
        "2 classes 9:1 in training, even after, balanced, 300 images": {
            "train": (0.9, 0.1),
            "mix": EVEN,
            "images": 300,
            "taste": "balanced",
        },
        "2 classes even in training, 24:1 after, 2,000 images": {
            "train": EVEN,
            "mix": RARE,
            "images": 2000,
        },
        "10 even classes, 200 images, overconfident": {
            "mix": (0.1,) * 10,
            "images": 200,
            "noise": 5.0,
        },
        "10 even classes, 200 images, one feature": {
            "mix": (0.1,) * 10,
            "images": 200,
            "one_feature": True,
        },
        "30 classes, a long tail reversed after, balanced, 300 images": {
            "train": LONG_TAIL,
            "mix": LONG_TAIL[::-1],
            "images": 300,
            "taste": "balanced",
        },
        "30 classes, a long tail, 60 images, any taste": {
            "mix": LONG_TAIL,
            "images": 60,
            "taste": "any",
        },
    }
    found = []
    for metric in CLASSIFICATION.metrics:
        for title, options in kinds.items():
            blind = Blind(**({"train": options["mix"], "trials": 3, "metric": metric} | options))
            found.append(Case("guessing", f"{metric.title}: {title}", PROMISES, blind.play))
    for trials in (1, 20):
        blind = Blind((0.01,) * 100, (0.01,) * 100, 200, trials, CLASSIFICATION.primary)
        title = f"accuracy: 100 even classes, 200 images, {trials} trial{'s' * (trials > 1)}"
        found.append(Case("guessing", title, PROMISES, blind.play))
    return found
