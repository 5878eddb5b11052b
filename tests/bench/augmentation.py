"""Accuracy with few and many images of a class: no augmentation, a policy, and mixed images.

    python -m tests.bench.augmentation --data-root FOLDER [--seeds 5]

The folder holds a data set as `train/` and `test/` with a folder for each class, such as CIFAR-10
as files. For each seed and size, as many training images of each class are drawn, on which a small
network is trained from scratch once without augmentation and once with each of the others: with the
same images, seed and number of epochs. The networks are tested on all of `test/` after the last
epoch; nothing is chosen by it. Prints Markdown: the mean accuracy over the seeds, and the mean of
the paired differences to no augmentation with its 95 % interval (Student's t).
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from tests.bench.few_labels import rows_drawn
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.datasets.load import load
from trainables.tasks.classification.report import accuracy
from trainables.training.loop import Training

EPOCHS = {100: 25, 1000: 6}
"""The number of epochs by the number of images of a class."""
AUGMENTATIONS = {
    "none": {},
    "trivial": {"augment.policy": "trivial"},
    "mixup": {"augment.mix": "mixup"},
    "cutmix": {"augment.mix": "cutmix"},
}
BASE = {
    "model.name": "deep_cnn",
    "model.layers": 8,
    "model.width": 16,
    "optimizer.name": "adamw",
    "optimizer.lr": 3e-3,
    "optimizer.schedule": "cosine",
    "optimizer.weight_decay": 1e-4,
    "batch_size": 64,
    "precision": "fp32",
}
WATCHED = 64
"""The number of test images that are predicted after each epoch, because a training must validate.
"""


def tested(config: TrialConfig, dataset: Dataset, few: Dataset) -> float:
    """Train on the images of `few`, and return the accuracy on the test set of `dataset`."""
    assert dataset.test is not None
    training = Training(config, few)
    for _ in training.epochs():
        pass
    module = training.task.module(training.used_network, training.val).eval()
    with torch.no_grad():
        chances = training.task.predict(module, dataset.test.images, 256, "cpu", dataset)
    return accuracy(dataset.test.targets, chances.argmax(axis=1))


def measured(
    base: TrialConfig, dataset: Dataset, size: int, seeds: int, epochs: int
) -> dict[str, list[float]]:
    """Return the test accuracies of each augmentation with `size` images of a class, by seed."""
    assert dataset.test is not None
    accuracies: dict[str, list[float]] = {name: [] for name in AUGMENTATIONS}
    for seed in range(seeds):
        generator = np.random.default_rng([seed, size])
        rows = rows_drawn(dataset.train.targets, size * len(dataset.classes), generator)
        watched = dataset.test.take(np.arange(WATCHED))
        few = Dataset("folder", dataset.classes, dataset.train.take(rows), watched, None, "")
        for name, values in AUGMENTATIONS.items():
            start = time.process_time()
            config = base.override({"seed": seed, "epochs": epochs, **values})
            accuracies[name].append(tested(config, dataset, few))
            spent_s = time.process_time() - start
            print(f"{size} {seed} {name} {accuracies[name][-1]:.3f} {spent_s:.0f} s", flush=True)
    return accuracies


def row(name: str, size: int, accuracies: dict[str, list[float]]) -> str:
    """Format a row: the mean accuracy, and the paired difference to no augmentation."""
    values = accuracies[name]
    gains = [100 * (value - plain) for value, plain in zip(values, accuracies["none"], strict=True)]
    mean, error = statistics.mean(gains), statistics.stdev(gains) / len(gains) ** 0.5
    width = float(stats.t.ppf(0.975, len(gains) - 1)) * error
    difference = (
        "" if name == "none" else f"{mean:+.1f} ({mean - width:+.1f} to {mean + width:+.1f})"
    )
    spread = f"{100 * min(values):.1f} to {100 * max(values):.1f}"
    return f"| {size:,} | {name} | {100 * statistics.mean(values):.1f} ({spread}) | {difference} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(EPOCHS), choices=EPOCHS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--longer", type=int, default=1, help="multiplies the numbers of epochs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    base = TrialConfig().override({"data.name": "folder", "data.root": str(args.data_root), **BASE})
    dataset = load(base.data)
    rows = []
    for size in args.sizes:
        accuracies = measured(base, dataset, size, args.seeds, args.longer * EPOCHS[size])
        rows += [row(name, size, accuracies) for name in AUGMENTATIONS]
    print("\n| images of a class | augmentation | test accuracy, % | points beside none |")
    print("|---|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    main()
