"""Which images to label first: the accuracy of a probe after so many labels, by their order.

    python -m tests.bench.labelling --data-root FOLDER --weights FOLDER [--draws 5]

The first folder holds a data set as `train/` and `test/` with a folder for each class, such as
CIFAR-10 as files. For each draw, `--pool` images of `train/` are drawn, and labelled in three
orders: random; typical ones first, as `search.label` shows them; and those first whose class is the
least certain after the labels so far have been spread to neighbours, 5 at a time, beginning with
typical ones. Prints Markdown: the mean accuracy on `test/` of a probe on the labelled images, with
the range over the draws.
"""

import argparse
from collections.abc import Callable

import numpy as np

from search.feedback.usefulness import Usefulness
from tests.bench.few_labels import features, features_options, row_of
from trainables.baselines.classifiers import LinearClassifier
from trainables.baselines.features import Values
from trainables.probes.spreading import certainty_of

SIZES = (20, 40, 100, 250, 600)
STEP = 5
"""The number of labels after which the order by uncertainty is computed again."""

Rows = list[int]


def random_order(pool: Values, labels: np.ndarray, count: int, seed: int) -> Rows:
    """Return rows of the pool in random order."""
    return np.random.default_rng([seed, 1]).permutation(len(pool))[:count].tolist()


def typical_order(pool: Values, labels: np.ndarray, count: int, seed: int) -> Rows:
    """Return rows as `search.label` shows them; at its end, random ones."""
    names = [str(row) for row in range(len(pool))]
    rows = [int(name) for name in Usefulness(names, pool).order([], names)][:count]
    rest = [row for row in random_order(pool, labels, len(pool), seed) if row not in set(rows)]
    return [*rows, *rest][:count]


def uncertain_order(pool: Values, labels: np.ndarray, count: int, seed: int) -> Rows:
    """Return rows with the least certain class first, given the labels before."""
    names = [str(row) for row in range(len(pool))]
    useful, classes = Usefulness(names, pool), [str(label) for label in np.unique(labels)]
    rows: Rows = []
    while len(rows) < count:
        shares = useful.shares({str(row): str(labels[row]) for row in rows}, classes)
        waiting = [name for name in names if int(name) not in set(rows)]
        if shares is None:
            typical = useful.order([str(row) for row in rows], waiting)
            rows += [int(name) for name, _ in zip(typical, range(STEP), strict=False)]
        else:
            by_certainty = np.argsort(certainty_of(shares), kind="stable").tolist()
            rows += [row for row in by_certainty if row not in set(rows)][:STEP]
    return rows[:count]


ORDERS: dict[str, Callable[[Values, np.ndarray, int, int], Rows]] = {
    "random": random_order,
    "typical first": typical_order,
    "uncertain first": uncertain_order,
}


def accuracy(
    c: float, values: Values, labels: np.ndarray, test: Values, right: np.ndarray
) -> float:
    """Return the accuracy of a probe that is fitted to these images."""
    fit = LinearClassifier(C=c).fit(values, labels)
    return float((fit.predict(test) == right).mean())


def measured(args: argparse.Namespace) -> dict[tuple[str, int], list[float]]:
    """Return the accuracy of each draw, by the order and the number of labels."""
    _, dataset, train, test = features(args)
    assert dataset.test is not None
    right = dataset.test.targets
    results: dict[tuple[str, int], list[float]] = {}
    for draw in range(args.draws):
        rows = np.random.default_rng(draw).permutation(len(train))[: args.pool]
        pool, labels = np.asarray(train[rows]), dataset.train.targets[rows]
        for name, order in ORDERS.items():
            chosen = order(pool, labels, max(args.sizes), draw)
            for size in args.sizes:
                first = chosen[:size]
                value = accuracy(args.c, pool[first], labels[first], test, right)
                results.setdefault((name, size), []).append(value)
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    features_options(parser)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--pool", type=int, default=3000)
    parser.add_argument("--draws", type=int, default=5)
    args = parser.parse_args()
    results = measured(args)
    print(f"| labels | {' | '.join(ORDERS)} |")
    print("|---|" + "---|" * len(ORDERS))
    for size in args.sizes:
        print(row_of(size, [results[name, size] for name in ORDERS]))


if __name__ == "__main__":
    main()
