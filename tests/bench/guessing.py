"""How often a search of data without any signal is called better than guessing.

    python -m tests.bench.guessing                 # 1,000 data sets a row; a few minutes
    python -m tests.bench.guessing --sets 100

Labels are drawn by the classes' shares. Each epoch of each trial gives images classes that have
nothing to do with their labels: by a taste of the trial for some classes, and anew in each epoch,
which is the worst case for whoever takes the best. What is judged is the code that judges searches,
`search.journal.guessing`.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.journal.events import Started, Tested
from search.journal.guessing import Guessing
from search.journal.result import SearchResult, TrialResult
from search.statistics import of_images
from trainables.catalog.guesses import guesses_of
from trainables.catalog.tasks import CLASSIFICATION, Metric
from trainables.config import TrialConfig
from trainables.tasks.metrics import SCORES

EPOCHS = 5
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """Data sets of one kind, and the searches of them."""

    title: str
    shares: tuple[float, ...]
    """How frequent each class is."""
    images: int
    """The number of validation images, and of test images."""
    trials: int
    metric: Metric


@dataclass
class Tally:
    """The number of searches that are called better than guessing, by what judges them."""

    alone: int = 0
    """The validation part, as if the best epoch were the only one."""
    validation: int = 0
    test: int = 0


def labels_of(row: Row, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw class numbers, at least one image of each class."""
    drawn = generator.choice(len(row.shares), count, p=row.shares)
    drawn[: len(row.shares)] = np.arange(len(row.shares))
    return drawn


def measured(metric: Metric, labels: NDArray[np.int64], chances: Floats) -> dict[str, float]:
    """Return what an epoch reports of class probabilities, (images, classes)."""
    right = float((chances.argmax(axis=1) == labels).mean())
    if metric.name not in SCORES:
        return {metric.key: right, "val/loss": 0.0}
    value, error = SCORES[metric.name](labels, chances)
    return {"val/accuracy": right, metric.key: value, metric.error_key: error, "val/loss": 0.0}


def blind(taste: Floats, images: int, generator: np.random.Generator) -> Floats:
    """Return class probabilities, (images, classes), by taste and chance alone."""
    logits = taste + generator.normal(0, 1, (images, len(taste)))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Floats = powers / powers.sum(axis=1, keepdims=True)
    return found


def searched(row: Row, generator: np.random.Generator) -> SearchResult:
    """Return a search of data without a signal, with the test of its best trial."""
    parts = [labels_of(row, 3 * row.images, generator)]
    parts += [labels_of(row, row.images, generator) for _ in range(2)]
    counts = [np.bincount(labels, minlength=len(row.shares)).tolist() for labels in parts]
    guesses = guesses_of([str(number) for number in range(len(row.shares))], *counts)
    config = TrialConfig(metric=row.metric.name).to_dict()
    data = {"val": row.images, "guesses": [vars(guess) for guess in guesses]}
    result = SearchResult(started=Started(data=data, experiment={"base": config}))
    tastes = np.log(row.shares) + generator.normal(0, 1, (row.trials, len(row.shares)))
    for number, taste in enumerate(tastes):
        epochs = {
            epoch: measured(row.metric, parts[1], blind(taste, row.images, generator))
            for epoch in range(1, EPOCHS + 1)
        }
        name = f"t{number}"
        result.trials[name] = TrialResult(
            name, {}, config, "completed", epochs=epochs, training_key=name
        )
    best = result.best
    assert best is not None
    taste = tastes[list(result.trials).index(best.trial)]
    said = measured(row.metric, parts[2], blind(taste, row.images, generator))
    result.tested = Tested(best.trial, best.best_epoch or 0, tested(row, said))
    return result


def tested(row: Row, said: dict[str, float]) -> dict[str, Any]:
    """Return an evaluation on the test part."""
    found: dict[str, Any] = {"images": row.images, "accuracy": said["val/accuracy"]}
    if row.metric.name in SCORES:
        value = said[row.metric.key]
        low, high = row.metric.interval(value, said[row.metric.error_key])
        found["metric"] = {"name": row.metric.name, "value": value, "low": low, "high": high}
    return found


def tally(row: Row, sets: int) -> Tally:
    """Judge searches of so many data sets."""
    found, generator = Tally(), np.random.default_rng(0)
    for _ in range(sets):
        result = searched(row, generator)
        found.test += not at_chance(result)
        result.tested = None
        found.validation += not at_chance(result)
        found.alone += not at_chance(result, looks=1)
    return found


def at_chance(result: SearchResult, looks: int | None = None) -> bool:
    """Return whether the best trial is at chance, as if there had been so many looks at it."""
    guessing, best = Guessing.of(result), result.best
    assert guessing is not None
    assert best is not None
    if looks is not None:
        vars(guessing)["looks"] = looks  # where a cached property keeps its value
    return guessing.is_at_chance(best)


def rows() -> list[Row]:
    """Return the rows of the table."""
    even, rare = (0.5, 0.5), (0.96, 0.04)
    kinds = {
        "2 even classes, 100 images": (even, 100),
        "2 classes 24:1, 42 images": (rare, 42),
        "2 classes 24:1, 500 images": (rare, 500),
        "10 even classes, 200 images": ((0.1,) * 10, 200),
        "100 even classes, 200 images": ((0.01,) * 100, 200),
    }
    found = [
        Row(title, shares, images, trials, CLASSIFICATION.primary)
        for title, (shares, images) in kinds.items()
        for trials in (1, 20)
    ]
    for metric in CLASSIFICATION.metrics[1:]:
        for title in ("2 classes 24:1, 42 images", "2 classes 24:1, 500 images"):
            found.append(Row(title, *kinds[title], 5, metric))
        title = "10 even classes, 200 images"
        found.append(Row(title, *kinds[title], 5, metric))
    return found


def share(count: int, sets: int) -> str:
    """Return `1.2 % (0.7 to 2.1)`."""
    low, high = of_images(count / sets, sets)
    return f"{100 * count / sets:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=int, default=1000)
    args = parser.parse_args(argv)
    print("| data | metric | trials | by the test part | by the validation part | uncorrected |")
    print("|---|---|---|---|---|---|")
    for row in rows():
        found = tally(row, args.sets)
        cells = [share(count, args.sets) for count in (found.test, found.validation, found.alone)]
        print(
            f"| {row.title} | {row.metric.title} | {row.trials} | {' | '.join(cells)} |", flush=True
        )


if __name__ == "__main__":
    main()
