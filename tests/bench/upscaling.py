"""Compare the networks for super-resolution, trained for the same CPU time each.

    python -m tests.bench.upscaling --data folder:PHOTOS --seconds 180 --seeds 3

Each network is trained on the training photographs by one thread for `--seconds` of CPU time, with
a learning rate that falls as half a cosine over this time. It is then measured on the test
photographs, beside interpolations. Validation photographs are not used: no setting is chosen here.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from search.operations.run import data_config
from search.operations.run_request import Reading
from search.spaces.tasks.super_resolution import BASE, FIRST, TASK
from search.spaces.tasks.super_resolution_zoo import BASELINES
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images, Part
from trainables.inspection.leaks import load_clean
from trainables.tasks.metrics import MetricAverage
from trainables.tasks.super_resolution.predictor import interpolate
from trainables.tasks.super_resolution.reducing import scale_of
from trainables.training.loop import Training, eval_batch

NETWORKS: dict[str, dict[str, Any]] = {
    "autoencoder": {"model.width": 16, "model.depth": 2},
    "srcnn": {"model.width": 64},
    "fsrcnn": {"model.width": 48, "model.layers": 4},
    "espcn": {"model.width": 64},
    "edsr": {"model.width": 32, "model.layers": 4},
}
"""The settings of each network: the first trials of the space `super_resolution`, or the defaults,
which are those of the papers."""
MEGAPIXEL = 1e6


class Measured(NamedTuple):
    """The result of an enlargement on the test photographs."""

    psnr: float
    ssim: float
    gain: float
    least_gain: float
    ms_per_megapixel: float
    """The CPU time for a megapixel of the enlarged images, in milliseconds."""


def train(config: TrialConfig, dataset: Dataset, seconds: float) -> tuple[Training, int]:
    """Train a network for this many CPU seconds, and return it with the number of steps."""
    training = Training(config, dataset)
    training.wrapped.train()
    means = MetricAverage("loss", device=training.device)
    steps, epoch, start = 0, 0, time.process_time()
    while True:
        epoch += 1
        for rows, changes in zip(*training.draws(epoch), strict=True):
            share = (time.process_time() - start) / seconds
            if share >= 1:
                return training, steps
            for group in training.optimizer.param_groups:
                group["lr"] = config.optimizer.lr * (1 + math.cos(math.pi * share)) / 2
            training.step(rows, changes, means)
            steps += 1


def measure(
    enlarge: Callable[[Images], Images], part: Part, training: Training, dataset: Dataset
) -> Measured:
    """Enlarge the photographs of a part, and compare them with the true ones."""
    start = time.process_time()
    enlarged = [enlarge(np.asarray(image)) for image in part.images]
    seconds = time.process_time() - start
    pixels = sum(image.shape[0] * image.shape[1] for image in enlarged)
    values = training.task.evaluate(enlarged, part, dataset, training.metric)
    return Measured(
        psnr=values["psnr"],
        ssim=values["ssim"],
        gain=values["gain"],
        least_gain=values["least_gain"],
        ms_per_megapixel=1000 * seconds / (pixels / MEGAPIXEL),
    )


def enlarger(training: Training, dataset: Dataset) -> Callable[[Images], Images]:
    """Return the function by which a trained network enlarges an image, as `search.predict`."""
    module = training.task.module(training.network, training.val).eval()
    size = eval_batch(training.config, dataset, training.device)

    def enlarge(image: Images) -> Images:
        with torch.no_grad():
            (enlarged,) = training.task.predict(module, [image], size, "cpu", dataset)
        return np.asarray(enlarged)

    return enlarge


class Rows:
    """The results of the networks so far, and the rows of the table about them."""

    def __init__(self) -> None:
        self.results = dict[str, list[Measured]]()
        self.steps = dict[str, list[int]]()
        self.weights = dict[str, int]()

    def add(self, name: str, training: Training, steps: int, measured: Measured) -> None:
        """Add the result of a training."""
        self.results.setdefault(name, []).append(measured)
        self.steps.setdefault(name, []).append(steps)
        self.weights[name] = sum(weight.numel() for weight in training.network.parameters())

    def lines(self) -> Iterator[str]:
        """Yield a row for each network, the best first."""
        gains = {name: np.mean([own.gain for own in each]) for name, each in self.results.items()}
        for name in sorted(gains, key=lambda name: -gains[name]):
            steps = f"{np.mean(self.steps[name]):,.0f}"
            yield row(f"`{name}`", f"{self.weights[name]:,}", steps, self.results[name])


def row(title: str, weights: str, steps: str, results: list[Measured]) -> str:
    """Return a row of the table: the means over the seeds, and the range of the gain."""
    psnr, ssim, gain, _, speed = np.mean(results, axis=0)
    least = min(result.least_gain for result in results)
    gains = [result.gain for result in results]
    spread = f" ({min(gains):+.2f} to {max(gains):+.2f})" if len(gains) > 1 else ""
    return (
        f"| {title} | {psnr:.2f} | {ssim:.4f} | {gain:+.2f}{spread} | {least:+.2f} | "
        f"{speed:.0f} | {weights} | {steps} |"
    )


def compare(config: TrialConfig, seconds: float, seeds: int) -> Iterator[str]:
    """Train and measure each network, and yield the table after each seed; print each result."""
    dataset = load_clean(config.data)
    assert dataset.test is not None
    scale, rows = scale_of(dataset.train), Rows()
    plain = list[str]()
    for seed in range(seeds):
        for name, own in NETWORKS.items():
            trial = config.override({"model.name": name, "seed": seed, **FIRST, **own})
            training, steps = train(trial, dataset, seconds)
            measured = measure(enlarger(training, dataset), dataset.test, training, dataset)
            rows.add(name, training, steps, measured)
            print(f"seed {seed}, {name}, {steps} steps: {measured}", flush=True)
        if not plain:
            for method in BASELINES:
                enlarge = partial(interpolate, scale=scale, method=method)
                measured = measure(enlarge, dataset.test, training, dataset)
                plain.append(row(f"`{method}`", "", "", [measured]))
        yield f"{seconds:g} CPU seconds each, {seed + 1} of {seeds} seeds, {time.ctime()}"
        yield (
            "| model | PSNR (dB) | SSIM | above bicubic (dB) | least of any photograph (dB) | "
            "ms per megapixel | weights | steps |"
        )
        yield "|---" * 8 + "|"
        yield from rows.lines()
        yield from plain


def main() -> None:
    """Print the table after each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="as for search.run")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = data_config(args.data, Reading(task=TASK), 0).override({**BASE, "precision": "fp32"})
    for line in compare(config, args.seconds, args.seeds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
