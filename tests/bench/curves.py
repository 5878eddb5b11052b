"""Tasks whose learning curves are known.

Recorded ones, and made-up ones on which they cross late, plateau in noise, or bloom late.
"""

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.space import Choice

Floats = NDArray[np.float64]
RECORDED = {
    "AdamOptimizer": ("adam", None),
    "GradientDescentOptimizer": ("sgd", 0.0),
    "MomentumOptimizer": ("sgd", 0.9),
}
IMAGES = {"svhn_wrn164": 26_032, "alexnet_imagenet": 50_000}
"""Images that accuracies rest on, of the tasks where these are not 10,000."""
STEPS_PER_EPOCH = 40
"""Optimizer steps between two evaluations of `alexnet_imagenet`, whose `ss` is in steps."""
DROPS = {"deep_resnets_cifar10": 28}
"""Epochs between two drops of the learning rate, of tables that do not say it.

The residual networks drop it once, after epoch 30 of 50; the first two are left out of the table.
"""
DRAWN = 200
GRID = Path(__file__).with_name("mnist_64.jsonl.gz")


@dataclass(frozen=True)
class Task:
    """Configurations and what each comes to: `accuracies` is (configurations, epochs)."""

    name: str
    params: list[dict[str, Any]]
    accuracies: Floats
    costs: Floats | None = None
    """The cost of using each, where that differs."""
    images: int = 0
    """The number of images that each accuracy rests on; 0 for exact ones."""
    base: dict[str, Any] = field(default_factory=dict)
    """Settings that all configurations share."""

    @property
    def domains(self) -> dict[str, Choice]:
        """The parameters, and the values of each."""
        paths = dict.fromkeys(path for params in self.params for path in params)
        values = {
            path: sorted({params[path] for params in self.params if path in params})
            for path in paths
        }
        return {
            path: Choice(
                *values[path],
                when={"optimizer.name": "sgd"} if path == "optimizer.momentum" else None,
            )
            for path in paths
        }

    @property
    def reached(self) -> Floats:
        """The best until each epoch."""
        best: Floats = np.fmax.accumulate(np.nan_to_num(self.accuracies), axis=1)
        return best


MadeTask = Callable[[int], Task]
"""A function that makes a task for an order."""


def recorded(folder: Path) -> Iterator[MadeTask]:
    """Yield the tasks of the files in a folder, or of one file."""
    for path in [folder] if folder.is_file() else sorted(folder.iterdir()):
        if path.name.endswith(".jsonl.gz"):
            yield from (always(task) for task in of_runs(path))
        elif path.name.endswith(".csv.gz"):
            yield of_table(path)
        elif path.name.startswith("lcbench"):
            yield from of_lcbench(path)


def of_grid() -> Task:
    """Return the whole grid of `mnist_64`, trained once by this project (`docs/benchmarks.md`)."""
    with gzip.open(GRID, "rt") as file:
        runs = [json.loads(line) for line in file]
    epochs = max(len(run["val_accuracy"]) for run in runs)
    curves = np.array(
        [run["val_accuracy"] + [np.nan] * (epochs - len(run["val_accuracy"])) for run in runs],
        dtype=float,
    )
    return Task("mnist_64", [run["params"] for run in runs], curves, images=5_000)


def always(task: Task) -> MadeTask:
    """Return the same task for each order."""
    return lambda seed: task


def of_table(path: Path) -> MadeTask:
    """Return the task of a table with a line a training.

    A line has its params, then its accuracy after 0, 1, 2 ... epochs. Each order draws some lines.
    """
    name = path.name.split(".")[0]
    with gzip.open(path, "rt") as file:
        lines = list(csv.DictReader(file))
    epochs = sum(column.startswith("acc_") for column in lines[0])
    distinct = {tuple(_table_params(line).items()): line for line in lines}
    params = [dict(key) for key in distinct]
    curves = np.array(
        [
            [float(line[f"acc_{epoch}"] or "nan") for epoch in range(1, epochs)]
            for line in distinct.values()
        ]
    )
    step = {"optimizer.step_epochs": DROPS[name]} if name in DROPS else {}
    base = {"optimizer.schedule": "step", **step} if step or "ss" in lines[0] else {}

    def drawn(seed: int) -> Task:
        rows = np.random.default_rng([6, seed]).permutation(len(params))[:DRAWN]
        return Task(
            name,
            [params[row] for row in rows],
            curves[rows],
            images=IMAGES.get(name, 10_000),
            base=base,
        )

    return drawn


def _table_params(line: dict[str, str]) -> dict[str, Any]:
    """Return the configuration of a table's line; the size of a network stands in another field."""
    rate = {"optimizer.lr": float(line["lr"])}
    if "ss" in line:
        return rate | {"optimizer.step_epochs": round(float(line["ss"]) / STEPS_PER_EPOCH)}
    return rate | {"optimizer.weight_decay": float(line.get("num_params", 0))}


def of_lcbench(path: Path) -> Iterator[MadeTask]:
    """Yield the tasks of LCBench, whose values are exp(-cross-entropy) on the validation set.

    Each order draws some of the 2,000 networks. The seven hyperparameters are numbers.
    """
    tables = np.load(path)
    for number, name in enumerate(tables["names"]):
        yield _lcbench_task(
            f"lcbench: {name}",
            tables[f"X{number}"].astype(float),
            np.exp(-tables[f"Y{number}"].astype(float))[:, 1:],
        )


def _lcbench_task(name: str, table: Floats, values: Floats) -> MadeTask:
    """Return a task of LCBench for each order."""

    def drawn(seed: int) -> Task:
        rows = np.random.default_rng([7, seed]).permutation(len(table))[:DRAWN]
        params = [
            {
                "batch_size": int(batch),
                "optimizer.lr": rate,
                "optimizer.momentum": momentum,
                "optimizer.weight_decay": decay,
                "model.layers": int(layers) + 2,  # a network has at least three here
                "model.width": int(width),
                "model.dropout": dropout,
            }
            for batch, rate, momentum, decay, layers, width, dropout in table[rows].tolist()
        ]
        base = {"model.name": "deep_cnn", "optimizer.name": "sgd", "optimizer.schedule": "cosine"}
        return Task(name, params, values[rows], base=base)

    return drawn


def of_runs(path: Path) -> Iterator[Task]:
    """Yield the tasks of a file with a run a line, by problem.

    They hold the runs of its most frequent seed, one of each configuration.
    """
    with gzip.open(path, "rt") as file:
        runs = [json.loads(line) for line in file]
    for problem in sorted({run["problem"] for run in runs}):
        mine = [run for run in runs if run["problem"] == problem]
        seeds = [run["seed"] for run in mine]
        first = [run for run in mine if run["seed"] == max(set(seeds), key=seeds.count)]
        curves = np.array(
            [
                [np.nan if value is None else value for value in run["test_accuracy"]]
                for run in first
            ],
            dtype=float,
        )[:, 1:]
        yield Task(
            problem, [params_of(run) for run in first], curves, images=IMAGES.get(problem, 10_000)
        )


def params_of(run: dict[str, Any]) -> dict[str, Any]:
    """Return a run's configuration under our names."""
    name, momentum = RECORDED[run["optimizer"]]
    return {"optimizer.name": name, "optimizer.lr": run["lr"]} | (
        {"optimizer.momentum": momentum} if momentum is not None else {}
    )


def rates() -> tuple[list[dict[str, Any]], Floats]:
    """Return three optimizers with 36 learning rates each.

    And how many decades each rate is off its optimizer's best.
    """
    found, off = [], []
    for optimizer, best in zip(RECORDED, (-3.3, -1.1, -2.2), strict=True):
        for rate in np.logspace(-5, 2, 36):
            found.append(params_of({"optimizer": optimizer, "lr": float(rate)}))
            off.append(np.log10(rate) - best)
    return found, np.array(off)


def rising(time: Floats, pace: Floats, power: float) -> Floats:
    """Return curves that rise from 0 towards 1, (configurations, epochs)."""
    risen: Floats = 1 - np.exp(-((np.clip(time, 0, None) / pace[:, None]) ** power))
    return risen


def deep(seed: int) -> Task:
    """Return a deep net on many classes.

    Small rates stay at chance for long and rise slowly, large ones never learn; 350 epochs.
    """
    (params, off), generator, time = (
        rates(),
        np.random.default_rng([1, seed]),
        np.arange(1.0, 351)[None],
    )
    ends = 0.59 - 0.03 * off**2 + generator.normal(size=len(off)) * 0.008
    risen = rising(time - 2.5 * 10 ** (-0.8 * off)[:, None], 18 * 10 ** (-0.55 * off), 0.9)
    curves = (
        0.01
        + np.clip(ends - 0.01, 0, 1)[:, None] * risen
        + generator.normal(size=risen.shape) * 0.004
    )
    curves[off > 0.7] = 0.01
    return Task("made up: deep", params, np.clip(curves, 0, 1))


def wide(seed: int) -> Task:
    """Return a wide residual net.

    All learn fast, ends are within a point, early epochs are noise, and small rates lead at first;
    160 epochs.
    """
    (params, off), generator, time = (
        rates(),
        np.random.default_rng([2, seed]),
        np.arange(1.0, 161)[None],
    )
    ends = (
        0.954
        - 0.01 * np.where(off < 0, 0.8, 1.5) * off**2
        + generator.normal(size=len(off)) * 0.0015
    )
    noise = (
        np.abs(generator.normal(size=(len(off), 160)))
        * (0.03 * 10 ** (0.5 * off))[:, None]
        * np.exp(-time / 50)
    )
    curves = (
        0.19
        + np.clip(ends - 0.19, 0, 1)[:, None] * rising(time, 0.8 * 10 ** (-0.9 * off), 0.6)
        - noise
    )
    curves[off > 1.5] = 0.19
    return Task("made up: wide", params, np.clip(curves, 0, 1))


def crossing(seed: int) -> Task:
    """Return a task where the slower a configuration rises, the better it ends; 100 epochs."""
    (params, off), generator, time = (
        rates(),
        np.random.default_rng([3, seed]),
        np.arange(1.0, 101)[None],
    )
    pace = 6 * 10 ** (-0.4 * np.clip(off, -2, 2))
    ends = 0.8 + 0.02 * np.log(pace) - 0.05 * np.abs(off) + generator.normal(size=len(off)) * 0.01
    curves = (
        0.1
        + (ends - 0.1)[:, None] * rising(time, pace, 0.7)
        + generator.normal(size=(len(off), 100)) * 0.004
    )
    return Task("made up: crossing", params, np.clip(curves, 0, 1))


def blooming(seed: int) -> Task:
    """Return a task that is at chance until a warm-up is over.

    The length of the warm-up says nothing of the end; 150 epochs.
    """
    (params, off), generator, time = (
        rates(),
        np.random.default_rng([4, seed]),
        np.arange(1.0, 151)[None],
    )
    begins = np.exp(generator.uniform(np.log(0.5), np.log(12), len(off)))
    ends = 0.5 - 0.05 * off**2 + generator.normal(size=len(off)) * 0.01
    risen = rising(
        time - begins[:, None], np.exp(generator.uniform(np.log(3), np.log(12), len(off))), 0.9
    )
    curves = (
        0.02
        + np.clip(ends - 0.02, 0, 1)[:, None] * risen
        + np.abs(generator.normal(size=risen.shape)) * 0.001
    )
    return Task("made up: blooming", params, np.clip(curves, 0, 1))


def dropping(seed: int) -> Task:
    """Return a task whose learning rate drops once, by a tenth, at a late epoch; 120 epochs.

    Before, a large rate learns faster but stays in noise, by more the larger it is; the drop takes
    most of that away, so that the order before it says little of the end.
    """
    (params, off), generator, time = (
        rates(),
        np.random.default_rng([8, seed]),
        np.arange(1.0, 121)[None],
    )
    drop = int(generator.integers(50, 90))
    ends = 0.8 - 0.015 * off**2 + generator.normal(size=len(off)) * 0.008
    held_back = np.clip(0.03 * 10 ** (0.5 * off), 0, 0.25) * generator.uniform(0.7, 1.3, len(off))
    left = np.where(time > drop, 0.1 * np.exp(-(time - drop) / 4) + 0.1, 1.0)
    curves = (
        0.1
        + np.clip(ends - 0.1, 0, 1)[:, None] * rising(time, 6 * 10 ** (-0.5 * off), 0.7)
        - held_back[:, None] * left
        - np.abs(generator.normal(size=(len(off), 120))) * (0.2 * held_back)[:, None] * left
    )
    curves[off > 1.5] = 0.1
    base = {"optimizer.schedule": "step", "optimizer.step_epochs": drop}
    return Task("made up: dropping", params, np.clip(curves, 0, 1), base=base)


def sized(seed: int) -> Task:
    """Return networks of six widths.

    The wider the better they end, by less and less, and the slower they rise and are; 100 epochs.
    """
    generator, time = np.random.default_rng([5, seed]), np.arange(1.0, 101)[None]
    params = [
        {"optimizer.lr": float(rate), "model.width": width}
        for width in (4, 8, 16, 32, 64, 128)
        for rate in np.logspace(-5, 0, 18)
    ]
    widths = np.array([one["model.width"] for one in params], dtype=float)
    off = np.log10([one["optimizer.lr"] for one in params]) + 2 + 0.3 * np.log2(widths / 16)
    ends = 0.9 - 0.4 / np.sqrt(widths) - 0.03 * off**2 + generator.normal(size=len(off)) * 0.004
    curves = (
        0.1
        + np.clip(ends - 0.1, 0, 1)[:, None]
        * rising(time, 2 * widths**0.4 * 10 ** (-0.3 * off), 0.7)
        + generator.normal(size=(len(off), 100)) * 0.004
    )
    curves[off > 1.5] = 0.1
    return Task("made up: sized", params, np.clip(curves, 0, 1), widths)


MADE_UP: tuple[MadeTask, ...] = (deep, wide, crossing, blooming, dropping)
