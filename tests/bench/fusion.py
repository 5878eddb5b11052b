"""Gain of fusing small trials on one device.

    python -m tests.bench.fusion [--device cuda] [--repetitions 3]

Whole epochs of 1,024 training and 256 validation images, stacking and handing back included, of one
training and of K together, in turn; the medians of images trained on a second and of their ratio.
Then what the planner chooses. Prints Markdown; two minutes on a CPU core.
"""

import argparse
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch

from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.fusion.planner import plan
from trainables.fusion.stack import train_together
from trainables.training.loop import Training
from trainables.training.process import prepare

NETS = {
    "deep_cnn, width 4, 8x8": (8, {"model.name": "deep_cnn", "model.width": 4}),
    "deep_cnn, width 8, 8x8": (8, {"model.name": "deep_cnn", "model.width": 8}),
    "deep_cnn, 10 layers, width 4, 8x8": (
        8,
        {"model.name": "deep_cnn", "model.width": 4, "model.layers": 10},
    ),
    "mnist_cnn, width 4, 28x28": (28, {"model.name": "mnist_cnn", "model.width": 4}),
    "table2, width 4, 28x28": (28, {"model.name": "table2", "model.width": 4}),
}
LARGER = {
    "mnist_cnn, width 32, 28x28": (28, {"model.name": "mnist_cnn"}),
    "table2, width 32, 28x28": (28, {"model.name": "table2"}),
}
"""Networks measured on a GPU only: on a CPU the planner refuses them unmeasured."""
MEMBERS = {"cpu": (4, 8, 16), "cuda": (8, 32, 128)}
HEADER = (
    "| net | K | batch | plain, images/s | fused, images/s | ratio (range) | planner's choice |"
)
IMAGES = {"train": 1024, "val": 256}


def made(side: int) -> Dataset:
    """Return random greyscale images of ten classes."""
    generator = np.random.default_rng(0)

    def part(count: int) -> Part:
        return Part(
            generator.integers(0, 256, (count, side, side, 1), dtype=np.uint8),
            np.arange(count) % 10,
        )

    return Dataset(
        "made", tuple("0123456789"), part(IMAGES["train"]), part(IMAGES["val"]), None, ""
    )


def epoch_s(group: Sequence[Training]) -> float:
    """Return the seconds for one epoch of a group, or of a single training as it trains itself."""
    start = time.perf_counter()
    if len(group) == 1:
        next(group[0].epochs())
    else:
        train_together(group)
    return time.perf_counter() - start


def row(name: str, members: int, batch: int, device: str, repetitions: int) -> str:
    """Measure one line of the table."""
    side, options = (NETS | LARGER)[name]
    dataset = made(side)
    config = TrialConfig().override({**options, "batch_size": batch, "epochs": 1000})
    configs = [config.override({"optimizer.lr": 1e-3 * 1.1**member}) for member in range(members)]
    one = Training(config, dataset, device=device)
    group = [Training(each, dataset, device=device) for each in configs]
    epoch_s([one]), epoch_s(group)
    pairs = [(epoch_s([one]), epoch_s(group)) for _ in range(repetitions)]
    plain, fused = (
        IMAGES["train"] / statistics.median(times) for times in zip(*pairs, strict=True)
    )
    ratios = [members * alone / together for alone, together in pairs]
    chosen = plan(config, dataset, device=device, trials=members)
    choice = (
        f"{chosen.kind} x{chosen.members}, {chosen.gain:.2f}"
        if chosen.kind != "plain"
        else f"plain: {chosen.reason}"
    )
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return (
        f"| {name} | {members} | {batch} | {plain:,.0f} | {members * fused:,.0f} | {spread} | "
        f"{choice} |"
    )


def main() -> None:
    """Print the table as it is measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 64])
    args = parser.parse_args()
    prepare(1)
    kind = torch.device(args.device).type
    print(HEADER, "|---" * 7 + "|", sep="\n", flush=True)
    for name in NETS if kind == "cpu" else NETS | LARGER:
        for batch in args.batches:
            for members in MEMBERS[kind]:
                print(row(name, members, batch, args.device, args.repetitions), flush=True)


if __name__ == "__main__":
    main()
