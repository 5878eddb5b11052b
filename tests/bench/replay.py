"""What early stopping costs and loses: our own driver, algorithm and scheduler, asked as a search asks them, on learning curves that are known.

    python -m tests.bench.replay                       # made-up tasks on which curves cross late, plateau in noise, or bloom late
    python -m tests.bench.replay --curves FILE         # and recorded ones: DeepOBS's, a JSON object a line, gzipped

A search is played in simulated time, an epoch a unit, `--workers` at once; all configurations of a task arrive in random order. Beside it,
asynchronous halving that stops (Li et al. 2018; Ray Tune's `ASHAScheduler`, whose default is grace 1, reduction 4) with fixed settings. Regret is
in points of accuracy, of the trial that is chosen (the best value seen) behind the best of the task, both by the best epoch; the cost is in epochs,
as a share of the full grid's. Means over orders, with 95 % bootstrap intervals. Where networks differ in what they cost, regret is the mean over the
whole grid's Pareto front of how far what was found at that cost or less lies behind.
"""

import argparse
import gzip
import heapq
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.driver import Driver
from search.experiment import Experiment
from search.journal import Journal
from search.objectives import ACCURACY
from search.space import Choice, SearchSpace
from trainables.config import TrialConfig

Floats = NDArray[np.float64]
RECORDED = {"AdamOptimizer": ("adam", None), "GradientDescentOptimizer": ("sgd", 0.0), "MomentumOptimizer": ("sgd", 0.9)}
IMAGES = {"svhn_wrn164": 26_032}
"""Test images of recorded problems that have not 10,000."""
TITLES = "| rule | regret, points | epochs | best kept | the best stopped: told, happened | time |\n|---|---|---|---|---|---|"
SURE = (0.0, 0.8, 0.95)
FIXED = ((1, 4), (1, 3), (3, 3), (9, 3))
"""Grace and reduction of the rules beside ours."""


@dataclass(frozen=True)
class Task:
    """Configurations and what each comes to: `accuracies` is (configurations, epochs)."""

    name: str
    params: list[dict[str, Any]]
    accuracies: Floats
    costs: Floats | None = None
    """What each costs to use, where that differs."""
    images: int = 0
    """On how many images each accuracy rests; 0 for exact ones."""

    @property
    def reached(self) -> Floats:
        """The best until each epoch."""
        best: Floats = np.fmax.accumulate(np.nan_to_num(self.accuracies), axis=1)
        return best


@dataclass(frozen=True)
class Outcome:
    """Of one search: points behind the best, the share of the grid's epochs, and the time until the end, in epochs."""

    regret: float
    cost: float
    makespan: float
    told: float | None = None
    """The chance, by its own account, that the best of all was stopped."""
    lost: bool = False
    """Whether it was."""


class Unkept(Journal):
    """A journal that leaves nothing on disk."""

    def _write_once(self, line: bytes) -> None:
        pass


def experiment_of(task: Task, seed: int, storage: Path) -> Experiment:
    """A search over a task's configurations, in an order that the seed gives."""
    paths = {
        path: sorted({params[path] for params in task.params if path in params}) for path in dict.fromkeys(path for params in task.params for path in params)
    }
    domains = {path: Choice(*values, when={"optimizer.name": "sgd"} if path == "optimizer.momentum" else None) for path, values in paths.items()}
    base = {"model.name": "table2", "epochs": task.accuracies.shape[1]}
    space = SearchSpace(domains, base=base)
    return Experiment(name="replay", space_name=task.name, space=space, base=TrialConfig().override(base), algorithm="grid", seed=seed, storage=storage)


def play(task: Task, seed: int, workers: int, **options: Any) -> Outcome:
    """A search with our driver and its scheduler; `options` of `Experiment`."""
    rows = {json.dumps(params, sort_keys=True): row for row, params in enumerate(task.params)}
    reached, spent, now = task.reached, 0, 0
    with TemporaryDirectory() as folder:
        experiment = replace(experiment_of(task, seed, Path(folder)), **options)
        journal = Unkept(experiment.folder)
        driver = Driver(experiment, journal, slots=workers)
        driver.result.started |= {"data": {"val": task.images}} if task.images else {}
        trials: dict[str, int] = {}
        ends: list[tuple[int, str]] = []
        while True:
            while (suggestion := driver.suggest()) is not None:
                trial = suggestion[0]
                trials.setdefault(trial, rows[json.dumps(driver.trials[trial].params, sort_keys=True)])
                driver.running(trial)
                heapq.heappush(ends, (now + 1, trial))
            if not ends:
                break
            now, trial = heapq.heappop(ends)
            spent += 1
            if not driver.report(trial, report(task, trials[trial], max(driver.trials[trial].epochs, default=0) + 1)):
                heapq.heappush(ends, (now + 1, trial))
        driver.settle()
        journal.close()
    best = int(task.reached[:, -1].argmax())
    told = {
        "told": driver.result.risk.get("chance", 0.0) if len(experiment.objectives) == 1 else None,
        "lost": all(row != best or driver.trials[trial].outcome != "completed" for trial, row in trials.items()),
    }
    seen = {row: float(reached[row, max(driver.trials[trial].epochs) - 1]) for trial, row in trials.items()}
    return replace(outcome(task, seen, spent, now), **told)


def report(task: Task, row: int, epoch: int) -> dict[str, Any]:
    """What a worker says after an epoch of a task's configuration."""
    cost = {"cost": {"inference": {"batch_1": {"median_ms": float(task.costs[row])}}}} if task.costs is not None else {}
    return {**said(epoch, float(np.nan_to_num(task.accuracies[row, epoch - 1])), is_last=epoch == task.accuracies.shape[1]), **cost}


def said(epoch: int, accuracy: float, *, is_last: bool) -> dict[str, Any]:
    """What a worker says after an epoch with this validation accuracy."""
    metrics = {"train/loss": 1 - accuracy, "val/loss": 1 - accuracy, "val/accuracy": accuracy, "lr": 0.1, "time/epoch_s": 1.0}
    return {"epoch": epoch, "metrics": metrics, "outcome": "completed" if is_last else None, "reason": ""}


def halve(task: Task, seed: int, workers: int, *, grace: int, reduction: int) -> Outcome:
    """A search with asynchronous halving that stops, as Ray Tune's: a trial goes on if it is not below the bar of those that came before. Values are
    the best so far, as ours are; Tune itself takes those of the very epoch, which are noisier.
    """
    reached, horizon = task.reached, task.accuracies.shape[1]
    rungs: dict[int, list[float]] = {}
    while grace < horizon:
        rungs[grace], grace = [], grace * reduction
    order = list(np.random.default_rng(seed).permutation(len(reached)))
    running: list[tuple[int, int, int]] = []
    seen: dict[int, float] = {}
    spent = now = 0
    while order or running:
        while order and len(running) < workers:
            heapq.heappush(running, (now + 1, int(order.pop()), 1))
        now, row, epoch = heapq.heappop(running)
        spent += 1
        value = seen[row] = float(reached[row, epoch - 1])
        recorded = rungs.get(epoch, [])
        bar = np.percentile(recorded, 100 * (1 - 1 / reduction)) if recorded else -np.inf
        recorded.append(value)
        if epoch < horizon and value >= bar:
            heapq.heappush(running, (now + 1, row, epoch + 1))
    return outcome(task, seen, spent, now)


def outcome(task: Task, seen: dict[int, float], spent: int, now: int) -> Outcome:
    """What the best by these values is worth after so many epochs; of the rows of each cost, or less, where that differs."""
    ends = task.reached[:, -1]
    costs = np.zeros(len(ends)) if task.costs is None else task.costs
    behind = []
    for bound in np.unique(costs):
        chosen = max((row for row in seen if costs[row] <= bound), key=seen.__getitem__, default=None)
        behind.append(ends[costs <= bound].max() - (ends[chosen] if chosen is not None else 0.0))
    return Outcome(100 * float(np.mean(behind)), spent / task.accuracies.size, now)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean and its 95 % bootstrap interval."""
    draws = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    return float(np.mean(values)), *(float(bound) for bound in np.percentile(draws, [2.5, 97.5]))


def row_of(name: str, outcomes: list[Outcome]) -> str:
    """A rule's row."""
    (regret, low, high), cost = interval([one.regret for one in outcomes]), np.mean([one.cost for one in outcomes])
    kept, time = np.mean([one.regret < 1e-9 for one in outcomes]), np.median([one.makespan for one in outcomes])
    told = [one.told for one in outcomes if one.told is not None]
    lost = f"{np.mean(told):.2f}, {np.mean([one.lost for one in outcomes]):.2f}" if told else ""
    return f"| {name} | {regret:.2f} ({low:.2f} to {high:.2f}) | {100 * cost:.1f} % | {100 * kept:.0f} % | {lost} | {time:,.0f} |"


def recorded(path: Path) -> Iterator[Task]:
    """The tasks of a file, by problem: the runs of its most frequent seed, one of each configuration."""
    with gzip.open(path, "rt") as file:
        runs = [json.loads(line) for line in file]
    for problem in sorted({run["problem"] for run in runs}):
        mine = [run for run in runs if run["problem"] == problem]
        seeds = [run["seed"] for run in mine]
        first = [run for run in mine if run["seed"] == max(set(seeds), key=seeds.count)]
        curves = np.array([[np.nan if value is None else value for value in run["test_accuracy"]] for run in first], dtype=float)[:, 1:]
        yield Task(problem, [params_of(run) for run in first], curves, images=IMAGES.get(problem, 10_000))


def params_of(run: dict[str, Any]) -> dict[str, Any]:
    """A run's configuration under our names."""
    name, momentum = RECORDED[run["optimizer"]]
    return {"optimizer.name": name, "optimizer.lr": run["lr"]} | ({"optimizer.momentum": momentum} if momentum is not None else {})


def rates() -> tuple[list[dict[str, Any]], Floats]:
    """Three optimizers with 36 learning rates each, and how many decades each rate is off its optimizer's best."""
    found, off = [], []
    for optimizer, best in zip(RECORDED, (-3.3, -1.1, -2.2), strict=True):
        for rate in np.logspace(-5, 2, 36):
            found.append(params_of({"optimizer": optimizer, "lr": float(rate)}))
            off.append(np.log10(rate) - best)
    return found, np.array(off)


def rising(time: Floats, pace: Floats, power: float) -> Floats:
    """From 0 towards 1, (configurations, epochs)."""
    risen: Floats = 1 - np.exp(-((np.clip(time, 0, None) / pace[:, None]) ** power))
    return risen


def deep(seed: int) -> Task:
    """A deep net on many classes: small rates stay at chance for long and rise slowly, large ones never learn; 350 epochs."""
    (params, off), generator, time = rates(), np.random.default_rng([1, seed]), np.arange(1.0, 351)[None]
    ends = 0.59 - 0.03 * off**2 + generator.normal(size=len(off)) * 0.008
    risen = rising(time - 2.5 * 10 ** (-0.8 * off)[:, None], 18 * 10 ** (-0.55 * off), 0.9)
    curves = 0.01 + np.clip(ends - 0.01, 0, 1)[:, None] * risen + generator.normal(size=risen.shape) * 0.004
    curves[off > 0.7] = 0.01
    return Task("made up: deep", params, np.clip(curves, 0, 1))


def wide(seed: int) -> Task:
    """A wide residual net: all learn fast, ends are within a point, early epochs are noise, and small rates lead at first; 160 epochs."""
    (params, off), generator, time = rates(), np.random.default_rng([2, seed]), np.arange(1.0, 161)[None]
    ends = 0.954 - 0.01 * np.where(off < 0, 0.8, 1.5) * off**2 + generator.normal(size=len(off)) * 0.0015
    noise = np.abs(generator.normal(size=(len(off), 160))) * (0.03 * 10 ** (0.5 * off))[:, None] * np.exp(-time / 50)
    curves = 0.19 + np.clip(ends - 0.19, 0, 1)[:, None] * rising(time, 0.8 * 10 ** (-0.9 * off), 0.6) - noise
    curves[off > 1.5] = 0.19
    return Task("made up: wide", params, np.clip(curves, 0, 1))


def crossing(seed: int) -> Task:
    """The slower a configuration rises, the better it ends; 100 epochs."""
    (params, off), generator, time = rates(), np.random.default_rng([3, seed]), np.arange(1.0, 101)[None]
    pace = 6 * 10 ** (-0.4 * np.clip(off, -2, 2))
    ends = 0.8 + 0.02 * np.log(pace) - 0.05 * np.abs(off) + generator.normal(size=len(off)) * 0.01
    curves = 0.1 + (ends - 0.1)[:, None] * rising(time, pace, 0.7) + generator.normal(size=(len(off), 100)) * 0.004
    return Task("made up: crossing", params, np.clip(curves, 0, 1))


def blooming(seed: int) -> Task:
    """At chance until a warm-up is over, whose length says nothing of the end; 150 epochs."""
    (params, off), generator, time = rates(), np.random.default_rng([4, seed]), np.arange(1.0, 151)[None]
    begins = np.exp(generator.uniform(np.log(0.5), np.log(12), len(off)))
    ends = 0.5 - 0.05 * off**2 + generator.normal(size=len(off)) * 0.01
    risen = rising(time - begins[:, None], np.exp(generator.uniform(np.log(3), np.log(12), len(off))), 0.9)
    curves = 0.02 + np.clip(ends - 0.02, 0, 1)[:, None] * risen + np.abs(generator.normal(size=risen.shape)) * 0.001
    return Task("made up: blooming", params, np.clip(curves, 0, 1))


def sized(seed: int) -> Task:
    """Networks of six widths: the wider the better they end, by less and less, and the slower they rise and are; 100 epochs."""
    generator, time = np.random.default_rng([5, seed]), np.arange(1.0, 101)[None]
    params = [{"optimizer.lr": float(rate), "model.width": width} for width in (4, 8, 16, 32, 64, 128) for rate in np.logspace(-5, 0, 18)]
    widths = np.array([one["model.width"] for one in params], dtype=float)
    off = np.log10([one["optimizer.lr"] for one in params]) + 2 + 0.3 * np.log2(widths / 16)
    ends = 0.9 - 0.4 / np.sqrt(widths) - 0.03 * off**2 + generator.normal(size=len(off)) * 0.004
    curves = 0.1 + np.clip(ends - 0.1, 0, 1)[:, None] * rising(time, 2 * widths**0.4 * 10 ** (-0.3 * off), 0.7) + generator.normal(size=(len(off), 100)) * 0.004
    curves[off > 1.5] = 0.1
    return Task("made up: sized", params, np.clip(curves, 0, 1), widths)


MADE_UP: tuple[Callable[[int], Task], ...] = (deep, wide, crossing, blooming)


def main(argv: Sequence[str] | None = None) -> None:
    """Play all tasks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, metavar="FILE")
    parser.add_argument("--orders", type=int, default=20, metavar="N", help="searches of each task by each rule")
    parser.add_argument("--workers", type=int, default=4, metavar="N")
    args = parser.parse_args(argv)
    tasks: list[Callable[[int], Task]] = [*(lambda seed, task=task: task for task in (recorded(args.curves) if args.curves else ())), *MADE_UP]
    for make in tasks:
        name, epochs = make(0).name, make(0).accuracies.shape[1]
        print(f"\n{name}, {epochs} epochs, {args.orders} orders, {args.workers} workers\n")
        print(TITLES)
        for sure in SURE:
            print(row_of(f"ours, --sure {sure:g}", [play(make(seed), seed, args.workers, sure=sure) for seed in range(args.orders)]), flush=True)
        for grace, reduction in FIXED:
            stopped = [halve(make(seed), seed, args.workers, grace=grace, reduction=reduction) for seed in range(args.orders)]
            print(row_of(f"grace {grace}, reduction {reduction}", stopped), flush=True)
    print(f"\n{sized(0).name}, 100 epochs, {args.orders} orders, {args.workers} workers: behind the Pareto front\n")
    print(TITLES)
    for title, objectives in (("ours, --objective val_accuracy,latency", (ACCURACY, "latency")), ("ours, accuracy alone", (ACCURACY,))):
        print(row_of(title, [play(sized(seed), seed, args.workers, objectives=objectives) for seed in range(100, 100 + args.orders)]), flush=True)
    print(row_of("grace 1, reduction 4", [halve(sized(seed), seed, args.workers, grace=1, reduction=4) for seed in range(100, 100 + args.orders)]))


if __name__ == "__main__":
    main()
