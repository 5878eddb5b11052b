"""What images without labels add to a probe: accuracy with few labels, with and without them.

    python -m tests.bench.few_labels --data-root FOLDER --weights FOLDER [--draws 5]

The first folder holds a data set as `train/` and `test/` with a folder for each class, such as
CIFAR-10 as files. The features of its images are computed once. For each draw and number of labels,
that many images of `train/` are drawn with their labels, as many of each class as of any other, and
`--unlabelled` others without. A probe and a `spread_*` model are fitted, and tested on all of
`test/`. One of the two is chosen by its accuracy on further labelled images, a third as many (as in
a search), or by a paired test on these: the second only if it is better at an error rate of 5 %.
The last of these columns is the share of draws in which the test accepts it.

With `--tuned EPOCHS`, the network is also fine-tuned for so many epochs, on the images with labels
alone and on those of a `pseudo_*` model, and tested after the last one. Prints
Markdown: means over the draws, with the range.
"""

import argparse
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.feedback.learning.paired import PairedComparison
from search.spaces.auto import FIRST_TUNED
from trainables.baselines.base import load_baseline
from trainables.baselines.features import Values
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.datasets.load import load
from trainables.probes.probe import LinearProbe, ProbeNetwork
from trainables.probes.spreading import SpreadingProbe, most_certain, spread
from trainables.training.loop import Training

SIZES = (40, 250, 1000, 4000)
ALPHA = 0.05


def rows_drawn(labels: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """Draw `size` rows, about as many of each class as of any other."""
    by_class = [generator.permutation(np.flatnonzero(labels == each)) for each in np.unique(labels)]
    shares = np.array_split(np.arange(size), len(by_class))
    return np.concatenate(
        [rows[: len(share)] for rows, share in zip(by_class, shares, strict=True)]
    )


def features(args: argparse.Namespace) -> tuple[LinearProbe, Dataset, Values, Values]:
    """Return the probe, the data set, and the features of its training and of its test images."""
    config = TrialConfig().override(
        {
            "data.name": "folder",
            "data.root": str(args.data_root),
            "model.name": f"probe_{args.network}",
            "model.weights": str(args.weights),
            "model.input_size": args.side,
            "model.c": args.c,
        }
    )
    dataset = load(config.data)
    assert dataset.test is not None
    probe = load_baseline(config)
    assert isinstance(probe, LinearProbe)
    train, test = (probe.features(part, dataset) for part in (dataset.train, dataset.test))
    return probe, dataset, train, test


def features_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `features` reads."""
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--network", default="mobilenet_v2")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--c", type=float, default=1e-3)


def tuned(config: TrialConfig, dataset: Dataset, train: Part) -> float:
    """Return the accuracy on the test set of a network that is fine-tuned on these images."""
    assert dataset.test is not None
    data = Dataset("folder", dataset.classes, train, dataset.test, None, "")
    *_, last = Training(config, data).epochs()
    return last.values["val/accuracy"]


def tuning(args: argparse.Namespace, images: int) -> TrialConfig:
    """Return the settings with which the space auto begins to fine-tune, for few images."""
    return TrialConfig().override(
        {
            "data.name": "folder",
            "data.root": str(args.data_root),
            "model.name": args.network,
            "model.pretrained": True,
            "model.weights": str(args.weights),
            "model.input_size": args.side,
            "optimizer.name": "adamw",
            "optimizer.schedule": "cosine",
            "optimizer.lr": FIRST_TUNED["optimizer.lr"],
            "optimizer.backbone_lr": FIRST_TUNED["optimizer.backbone_lr"],
            "optimizer.weight_decay": 1e-4,
            "augment.crop": 4,
            "augment.flip": True,
            "batch_size": min(32, images),
            "epochs": args.tuned,
        }
    )


def measured(args: argparse.Namespace) -> Iterator[tuple[int, list[float]]]:
    """Yield the number of labels and, of a draw, the values of the columns of the table."""
    probe, dataset, train, test = features(args)
    assert dataset.test is not None
    labels, right = dataset.train.targets, dataset.test.targets
    config = probe.config
    spreading = load_baseline(config.override({"model.name": f"spread_{args.network}"}))
    assert isinstance(spreading, SpreadingProbe)
    for draw in range(args.draws):
        for size in args.sizes:
            generator = np.random.default_rng([draw, size])
            rows = rows_drawn(labels, size, generator)
            rest = generator.permutation(np.setdiff1d(np.arange(len(labels)), rows))
            validation, others = np.split(rest, [size // 3])
            others = others[: args.unlabelled]
            part = Part(dataset.train.images[:1], labels[rows])
            few = Dataset("folder", dataset.classes, part, part, None, "")
            guessed, certainty = spread(
                train[rows],
                labels[rows],
                train[others],
                classes=len(few.classes),
                neighbours=spreading.config.model.options["neighbours"],
            )
            fits = (
                probe.fit_to(train[rows], few),
                spreading.fit_to_all(train[rows], train[others], few),
            )
            tested = list[NDArray[np.bool_]]()
            validated = list[NDArray[np.bool_]]()
            for fit in fits:
                network = ProbeNetwork(probe._pretrained(dataset), train.shape[1], len(few.classes))
                network.put(fit)
                for values, truth, results in (
                    (test, right, tested),
                    (train[validation], labels[validation], validated),
                ):
                    chances = probe.probabilities(network, values, dataset)
                    results.append(chances.argmax(axis=1) == truth)
            columns = chosen_by(tested, validated)
            if args.tuned:
                labelled, chosen = dataset.train.take(rows), most_certain(certainty)
                images = np.concatenate([labelled.images, dataset.train.images[others[chosen]]])
                targets = np.concatenate([labelled.targets, guessed[chosen]])
                settings = tuning(args, size)
                columns += [
                    tuned(settings, dataset, part)
                    for part in (labelled, Part(images, targets.astype(labels.dtype)))
                ]
                print(f"draw {draw}, {size} labels: {columns}", flush=True)
            yield size, [float((guessed == labels[others]).mean()), *columns]


def chosen_by(
    tested: Sequence[NDArray[np.bool_]], validated: Sequence[NDArray[np.bool_]]
) -> list[float]:
    """Return the test accuracy of two models, and of the one that each way of choosing chooses.

    Each array is True for images that are classified correctly. The last number is 1 if the paired
    test accepts the second model.
    """
    accuracies = [float(results.mean()) for results in tested]
    is_better = bool(validated[1].mean() > validated[0].mean())
    is_accepted = PairedComparison.of(*validated).p_better <= ALPHA
    return [*accuracies, accuracies[is_better], accuracies[is_accepted], float(is_accepted)]


def row_of(size: int, columns: Iterable[Sequence[float]]) -> str:
    """Format a row for a number of labels: means over the draws, with their ranges."""
    cells = [
        f"{statistics.mean(each):.3f} ({min(each):.3f} to {max(each):.3f})" for each in columns
    ]
    return f"| {size:,} | {' | '.join(cells)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    features_options(parser)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--unlabelled", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--tuned", type=int, default=0, metavar="EPOCHS")
    args = parser.parse_args()
    rows = list(measured(args))
    titles = ["labels", "spread labels that are right", "probe", "with the others"]
    titles += ["chosen by accuracy", "by a paired test", "accepted by the test"]
    titles += ["fine-tuned", "with the others"] if args.tuned else []
    print(f"| {' | '.join(titles)} |\n" + "|---" * len(titles) + "|")
    for size in args.sizes:
        print(row_of(size, zip(*(values for count, values in rows if count == size), strict=True)))


if __name__ == "__main__":
    main()
