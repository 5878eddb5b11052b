"""One side of one figure in a fresh process with one thread.

    python -m tests.bench.work step|data --side ours|stock ...

`step` gives images a second of training steps (forward, backward, Adam). Stock is plain torch on
one tensor batch, float32, channels first; ours is `trainables.training.loop.Training` on a
synthetic data set, its gathering and scaling of each batch included. `data` gives microseconds an
image of making MNIST batches. Each prints one JSON line.
"""

import argparse
import importlib
import json
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.bench.peers import stock
from trainables.augmentation.augment import draw
from trainables.catalog.entries import ModelEntry
from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.datasets.load import load
from trainables.training.loop import Training, generator_for
from trainables.training.process import prepare

CLASSES = tuple("0123456789")


def resnet18(image: tuple[int, int, int], classes: int) -> nn.Module:
    """Return torchvision's network, untrained."""
    found: nn.Module = importlib.import_module("torchvision.models").resnet18(
        weights=None, num_classes=classes
    )
    return found


def registry(net: str) -> Any:
    """Let a network that is not among ours stand in for `table2` while this lasts.

    Configs know the registry's names as they were at import.
    """
    other = {} if net in MODELS else {"table2": ModelEntry(builder=f"tests.bench.work:{net}")}
    return patch.dict(MODELS, other)


def random_part(count: int, image: tuple[int, int, int]) -> Part:
    """Return noise, with every class in it."""
    generator = np.random.default_rng(0)
    channels, height, width = image
    return Part(
        generator.integers(0, 256, (count, height, width, channels), dtype=np.uint8),
        np.arange(count) % 10,
    )


def our_training(
    net: str, image: tuple[int, int, int], batch: int, steps: int, precision: str
) -> Training:
    """Return a training with so many steps an epoch, and next to no validation."""
    dataset = Dataset(
        "noise", CLASSES, random_part(batch * steps, image), random_part(10, image), None, ""
    )
    options = {"model.width": 32} if net == "table2" else {}
    config = TrialConfig().override(
        {
            "model.name": net if net in MODELS else "table2",
            "batch_size": batch,
            "epochs": 10**6,
            "precision": precision,
            **options,
        }
    )
    return Training(config, dataset)


def our_rate(
    net: str, image: tuple[int, int, int], batch: int, steps: int, seconds: float, precision: str
) -> list[float]:
    """Return the images a second of each epoch but the first."""
    with registry(net):
        training = our_training(net, image, batch, steps, precision)
    epochs = training.epochs()
    return [batch * steps / next(epochs).values["time/epoch_s"] for _ in until(seconds)][1:]


def stock_rate(
    net: str, image: tuple[int, int, int], batch: int, steps: int, seconds: float
) -> list[float]:
    """Return the images a second of plain torch."""
    network = resnet18(image, 10) if net == "resnet18" else stock.network(image[0], image[1])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    inputs, labels = torch.randn(batch, *image), torch.arange(batch) % 10

    def epoch() -> float:
        began = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad()
            functional.cross_entropy(network(inputs), labels).backward()
            optimizer.step()
        return batch * steps / (time.perf_counter() - began)

    network.train()
    return [epoch() for _ in until(seconds)][1:]


def until(seconds: float) -> Any:
    """Count rounds until the time is over, three at least."""
    end, number = time.perf_counter() + seconds, 0
    while number < 3 or time.perf_counter() < end:
        yield number
        number += 1


def our_data(data_root: str, crop: int, batch: int, seconds: float) -> list[float]:
    """Return the microseconds an image of each round over 4,000 images of MNIST."""
    base = {
        "data.name": "mnist",
        "data.root": data_root,
        "data.train_limit": 4000,
        "augment.crop": crop,
        "model.name": "table2",
    }
    config = TrialConfig().override(base)
    pixels = Training(config, load(config.data).sealed).train
    changes = generator_for(0, "augment 0", 1)

    def read() -> int:
        for rows in torch.randperm(len(pixels)).split(batch):
            (drawn,) = draw(config.augment, 1, len(rows), changes, rows.device)
            pixels.batch(rows, drawn)
        return len(pixels)

    return rounds(read, seconds)


def stock_data(data_root: str, crop: int, batch: int, seconds: float) -> list[float]:
    """Return the same of PIL images, torchvision's transforms and a DataLoader without workers."""
    part = torch.utils.data.Subset(stock.images(data_root, crop=crop), range(4000))
    loader = torch.utils.data.DataLoader(part, batch_size=batch, shuffle=True, num_workers=0)
    return rounds(lambda: sum(len(labels) for _, labels in loader), seconds)


def rounds(read: Callable[[], int], seconds: float) -> list[float]:
    """Return the microseconds an image of each round but the first."""
    found = []
    for _ in until(seconds):
        began = time.perf_counter()
        count = read()
        found.append((time.perf_counter() - began) / count * 1e6)
    return found[1:]


def main() -> None:
    """Measure one side, print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("step", "data"))
    parser.add_argument("--side", choices=("ours", "stock"), required=True)
    parser.add_argument("--net", default="table2")
    parser.add_argument("--image", type=int, nargs=3, default=(1, 28, 28))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--crop", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--data-root", default="data")
    args = parser.parse_args()
    if args.side == "ours":
        prepare(args.threads)
    torch.set_num_threads(args.threads)
    if args.task == "step":
        work = args.net, tuple(args.image), args.batch, args.steps, args.seconds
        values = our_rate(*work, args.precision) if args.side == "ours" else stock_rate(*work)
        print(json.dumps({"images_s": statistics.median(values), "rounds": len(values)}))
    else:
        cost = our_data if args.side == "ours" else stock_data
        values = cost(args.data_root, args.crop, args.batch, args.seconds)
        print(json.dumps({"us": statistics.median(values), "rounds": len(values)}))


if __name__ == "__main__":
    main()
