"""How often a forecast of what more labels would bring is right.

    python -m tests.bench.more_labels --data-root FOLDER --weights FOLDER [--draws 20]

The first folder holds a data set as `train/` and `test/` with a folder for each class, such as
CIFAR-10 as files. For each draw and number of training images, that many images of `train/` are
drawn, and a third of it as validation set. The forecast is compared with the accuracy after further
images of `train/` were labelled, which is measured on `test/` and on the rest of `train/`. Prints
Markdown: the share of intervals that contain it, the mean difference (forecast minus truth), the
mean width of the intervals, the mean gain by the further labels, and that of the forecast.
"""

import argparse
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tests.bench.few_labels import features, features_options
from trainables.baselines.classifiers import LinearClassifier
from trainables.baselines.features import Values
from trainables.probes.more_labels import LEVEL, PENALTIES, TIMES, learning_curve

SIZES = (100, 300, 1000, 3000)
LARGEST = 0.8
"""The largest share of the images that are labelled, so that the truth is measured by many."""
VALIDATED = 1 / 3
"""The number of validation images, as a share of the training images."""


class Checked(NamedTuple):
    """A forecast beside the truth."""

    images: int
    times: float
    is_inside: bool
    difference: float
    width: float
    gain: float
    forecast_gain: float


def best_accuracy(
    train: Values,
    labels: np.ndarray,
    val: Values,
    seen: np.ndarray,
    test: Values,
    right: np.ndarray,
) -> float:
    """Return the accuracy on the test set, with the penalty that is best on the validation set."""
    fits = [LinearClassifier(C=each / len(train)).fit(train, labels) for each in PENALTIES]
    best = max(fits, key=lambda fit: float((fit.predict(val) == seen).mean()))
    return float((best.predict(test) == right).mean())


def checked(args: argparse.Namespace) -> Iterator[Checked]:
    """Yield the forecasts of each draw and size, as far as the images suffice."""
    _, dataset, values, test = features(args)
    assert dataset.test is not None
    labels, right = dataset.train.targets, dataset.test.targets
    for draw in range(args.draws):
        for images in args.sizes:
            rows = np.random.default_rng([draw, images]).permutation(len(labels))
            validated = max(20, round(VALIDATED * images))
            val, rest = rows[:validated], rows[validated:]
            train = rest[:images]
            most = max(times for times in TIMES if round(times * images) <= LARGEST * len(rest))
            unseen = rest[round(most * images) :]  # measures the truth, beside the test set
            all_values = np.concatenate([test, values[unseen]])
            all_right = np.concatenate([right, labels[unseen]])
            curve = learning_curve(
                values[train], labels[train], values[val], labels[val], seed=draw
            )
            if curve is None:
                continue
            truths, likely = {}, {}
            for times in TIMES:
                if times > most:
                    continue
                more = rest[: round(times * images)]
                truths[times] = best_accuracy(
                    values[more], labels[more], values[val], labels[val], all_values, all_right
                )
                low, likely[times], high = curve.forecast(times * images)
                yield Checked(
                    images,
                    times,
                    low <= truths[times] <= high,
                    likely[times] - truths[times],
                    high - low,
                    truths[times] - truths[1],
                    likely[times] - likely[1],
                )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    features_options(parser)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--draws", type=int, default=20)
    args = parser.parse_args()
    found = list(checked(args))
    print(
        f"| images | times | inside (told {LEVEL:.0%}) | forecast - truth | width | gain "
        "| forecast gain |"
    )
    print("|---|---|---|---|---|---|---|")
    for images, times in sorted({(each.images, each.times) for each in found}):
        own = [each for each in found if (each.images, each.times) == (images, times)]
        means = np.mean([each[3:] for each in own], axis=0)
        inside = sum(each.is_inside for each in own)
        cells = " | ".join(f"{mean:+.3f}" for mean in means)
        print(f"| {images:,} | {times:g} | {inside} of {len(own)} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
