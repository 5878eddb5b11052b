"""Accuracy of the fast path beside that of plain torch.

    python -m tests.bench.accuracy [--data-root DIR] [--seeds 5]

Three configurations, each with several seeds, trained twice on the same images in the same order
from the same weights: as a search trains them here (channels last, bfloat16, fused optimizer), and
as plain torch would (channels first, float32, its own optimizer). Prints Markdown: the best
validation accuracies, the mean difference with its standard error, and how far two seeds lie apart.
"""

import argparse
import statistics
from collections.abc import Callable
from unittest.mock import patch

from torch import nn, optim

from trainables.config import OptimizerConfig, TrialConfig
from trainables.datasets.load import load
from trainables.training import loop, optimizers
from trainables.training.process import prepare

CONFIGS = {
    "table2, Adam 0.001, batch 64": {
        "model.name": "table2",
        "optimizer.lr": 1e-3,
        "batch_size": 64,
    },
    "deep_cnn, 10 layers, Adam 0.003, batch 128": {
        "model.name": "deep_cnn",
        "model.layers": 10,
        "optimizer.lr": 3e-3,
        "batch_size": 128,
    },
    "mnist_cnn, SGD 0.05, batch 32": {
        "model.name": "mnist_cnn",
        "optimizer.name": "sgd",
        "optimizer.lr": 0.05,
        "batch_size": 32,
    },
}
DATA = {"data.name": "mnist", "data.train_limit": 4000, "data.val_limit": 5000, "epochs": 3}
PLAIN: dict[str, Callable[[list[nn.Parameter], OptimizerConfig], optim.Optimizer]] = {
    "adam": lambda weights, config: optim.Adam(weights, lr=config.lr),
    "sgd": lambda weights, config: optim.SGD(
        weights, lr=config.lr, momentum=optimizers.SGD_MOMENTUM
    ),
}


def best(config: TrialConfig) -> float:
    """Return the best epoch's validation accuracy, in per cent."""
    training = loop.Training(config, load(config.data).sealed)
    return 100 * max(epoch.values["val/accuracy"] for epoch in training.epochs())


def plain(config: TrialConfig) -> float:
    """Return the same without the parts that make training fast."""
    with (
        patch.object(loop, "on_device", lambda network, device: network.to(device)),
        patch.object(optimizers, "OPTIMIZERS", PLAIN),
        patch.object(optimizers, "lay_out", lambda optimizer: None),
    ):
        return best(config.override({"precision": "fp32"}))


def row(title: str, options: dict[str, object], data_root: str, seeds: int) -> str:
    """Return one configuration's line."""
    configs = [
        TrialConfig().override({**DATA, **options, "data.root": data_root, "seed": seed})
        for seed in range(1, seeds + 1)
    ]
    pairs = [(best(config), plain(config)) for config in configs]
    fast, slow = zip(*pairs, strict=True)
    differences = [one - other for one, other in pairs]
    error = statistics.stdev(differences) / len(differences) ** 0.5
    figures = [
        f"{statistics.mean(fast):.2f}",
        f"{statistics.mean(slow):.2f}",
        f"{statistics.mean(differences):+.2f} +- {error:.2f}",
    ]
    return (
        f"| {title} | {' | '.join(figures)} | {max(differences, key=abs):+.2f} | "
        f"{statistics.stdev(slow):.2f} |"
    )


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    prepare(1)
    print(
        (
            "| configuration | fast, % | plain, % | difference, points | largest difference | "
            "deviation over seeds |"
        ),
        "|---" * 6 + "|",
        sep="\n",
        flush=True,
    )
    for title, options in CONFIGS.items():
        print(row(title, options, args.data_root, args.seeds), flush=True)


if __name__ == "__main__":
    main()
