"""Wrong labels: how well planted errors are ranked and counted, and how many are announced if none.

    python -m tests.bench.label_errors --data-root FOLDER --weights FOLDER [--draws 3]

The first folder holds a data set as `train/` and `test/` with a folder for each class, such as
CIFAR-10 as files. Some labels of `train/` are replaced: by any other class with equal probability
(`uniform`), or always by the class that is most like it (`pairs`). The ranking of
`search.data --labels` is compared with confident learning (Northcutt, Jiang and Chuang 2021), on
the same class probabilities. Then the listed labels are corrected, as a person would do, and a
linear probe is fitted to the labels with errors, as corrected, and without errors; its accuracy is
that on `test/`. At the end, the number of labels that are announced without any planted error, also
for the digits. Prints Markdown.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from search.operations.data import DataRequest, config_of
from trainables.baselines.classifiers import LinearClassifier
from trainables.baselines.features import Values
from trainables.inspection.leaks import load_inspected
from trainables.inspection.report import LIKELY
from trainables.label_errors.doubts import Doubts, doubts
from trainables.label_errors.ranking import (
    RankedLabels,
    compute_features,
    rank_labels,
)
from trainables.probes.probe import model_for_files

FIRST = 100
C = 0.001
"""The probe's option `c`."""
CASES = (("uniform", 0.02), ("uniform", 0.1), ("uniform", 0.2), ("pairs", 0.1), ("pairs", 0.2))

Labels = NDArray[np.int64]


def plant(labels: Labels, kind: str, share: float, similar: Labels, seed: int) -> Labels:
    """Return labels of which a share is wrong.

    Args:
        labels: the right labels.
        kind: `uniform` or `pairs`.
        share: the share of labels that are replaced.
        similar: the class that is most like each class, (classes,).
        seed: of the random choice.
    """
    generator, planted = np.random.default_rng(seed), labels.copy()
    rows = generator.choice(len(labels), round(share * len(labels)), replace=False)
    if kind == "uniform":
        steps = generator.integers(1, len(similar), len(rows))
        planted[rows] = (labels[rows] + steps) % len(similar)
    else:
        planted[rows] = similar[labels[rows]]
    return planted


def confident_learning(result: Doubts, labels: Labels) -> tuple[float, NDArray[np.float64]]:
    """Return the expected number of errors by confident learning, and each label's score.

    The confident joint counts, by label and class, the images whose probability of the class is at
    least the mean of that over the images with this label (section 3.1); among several such
    classes, the most probable counts. It is scaled to the number of images with each label. The
    score is one minus the probability of the label (self-confidence).
    """
    chances, classes = result.probabilities, result.probabilities.shape[1]
    means = np.array([chances[labels == number, number].mean() for number in range(classes)])
    is_confident = chances >= means
    counted = is_confident.any(axis=1)
    likely = np.where(is_confident, chances, -1).argmax(axis=1)
    joint = np.zeros((classes, classes))
    np.add.at(joint, (labels[counted], likely[counted]), 1)
    sizes = np.bincount(labels, minlength=classes)
    joint *= (sizes / np.maximum(joint.sum(axis=1), 1))[:, None]
    return float(joint.sum() - np.trace(joint)), 1 - chances[np.arange(len(labels)), labels]


def similar_classes(values: Values, labels: Labels) -> Labels:
    """Return the class whose images are nearest to those of each class, on average."""
    means = np.stack([values[labels == number].mean(axis=0) for number in np.unique(labels)])
    distances = ((means[:, None] - means[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    return distances.argmin(axis=1)


def probe_accuracy(values: Values, labels: Labels, test: Values, right: Labels) -> float:
    """Return the accuracy of a probe that is fitted to these labels."""
    return float((LinearClassifier(C=C).fit(values, labels).predict(test) == right).mean())


def row_of(values: Values, right: Labels, kind: str, share: float, draws: int) -> str:
    """Measure a case in several draws, and return a row of the first table."""
    results = []
    similar = similar_classes(values, right)
    for draw in range(draws):
        labels = plant(right, kind, share, similar, draw)
        is_wrong = labels != right
        result = doubts(values, labels, len(similar))
        expected, scores = confident_learning(result, labels)
        first = np.argsort(-scores, kind="stable")[:FIRST]
        likely = result.chances >= LIKELY
        results.append(
            (
                roc_auc_score(is_wrong, scores),
                is_wrong[first].sum(),
                result.chances.sum(),
                likely.sum(),
                100 * is_wrong[likely].sum() / max(1, likely.sum()),
                expected,
            )
        )
    auroc, hits, expected, announced, precision, joint = np.array(results).T
    return (
        f"| {kind}, {round(share * len(right)):,} | {auroc.mean():.3f} | "
        f"{hits.min():.0f} to {hits.max():.0f} | {expected.mean():.0f} | {announced.mean():.0f} | "
        f"{precision.mean():.0f} % | {joint.mean():.0f} |"
    )


def corrected(values: Values, right: Labels, labels: Labels) -> tuple[Labels, int]:
    """Correct the listed labels; return all labels, and the number that was listed."""
    classes = tuple(str(number) for number in np.unique(right))
    result = doubts(values, labels, len(classes))
    rows = np.arange(len(labels))
    ranked = RankedLabels(classes, rows, labels, np.zeros(len(rows), bool), result, "")
    listed = ranked.order
    changed = labels.copy()
    changed[listed] = right[listed]
    return changed, len(listed)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=3)
    args = parser.parse_args()
    config = config_of(DataRequest(data=f"folder:{args.data_root}"))
    model, inspected = model_for_files(args.weights), load_inspected(config)
    every, places = compute_features(inspected, config, model), inspected.places
    is_test = places.part == list(places.parts).index("test")
    values, right = every[~is_test], places.strata[~is_test]
    test, truth = every[is_test], places.strata[is_test]
    print(
        f"| errors among {len(right):,} | AUROC | wrong among the first {FIRST} | expected | "
        "announced | of which wrong | confident joint |\n|---|---|---|---|---|---|---|"
    )
    for kind, share in CASES:
        print(row_of(values, right, kind, share, args.draws), flush=True)
    print("\n| errors | listed | as labelled | corrected | without errors |\n|---|---|---|---|---|")
    clean = probe_accuracy(values, right, test, truth)
    for share in (0.1, 0.2):
        labels = plant(right, "uniform", share, similar_classes(values, right), 0)
        changed, listed = corrected(values, right, labels)
        before = probe_accuracy(values, labels, test, truth)
        after = probe_accuracy(values, changed, test, truth)
        print(f"| {100 * share:g} % | {listed:,} | {before:.3f} | {after:.3f} | {clean:.3f} |")
    print("\n| no planted errors | images | expected | announced | confident joint |")
    print("|---|---|---|---|---|")
    digits = config_of(DataRequest(data="digits"))
    digits_model = model_for_files(None)
    for name, ranked in (
        ("all parts", rank_labels(inspected, config, model)),
        ("digits", rank_labels(load_inspected(digits), digits, digits_model)),
    ):
        joint, _ = confident_learning(ranked.doubts, ranked.labels)
        chances = ranked.doubts.chances
        print(
            f"| {name} | {len(ranked.labels):,} | {chances.sum():.0f} | "
            f"{(chances >= LIKELY).sum()} | {joint:.0f} |"
        )


if __name__ == "__main__":
    main()
