"""Cost and loss of early stopping, played on learning curves that are known.

Our own driver, algorithm and scheduler are asked as a search asks them.

    python -m tests.bench.replay                # made-up tasks
    python -m tests.bench.replay --curves FOLDER --out FOLDER

On the made-up tasks, curves cross late, plateau in noise, or bloom late. The second command adds
recorded ones (`tests.bench.curves`), and pictures.

A search is played in simulated time, an epoch a unit, `--workers` at once; all configurations of a
task arrive in random order. Beside it, the rules of others at several settings
(`tests.bench.rules`). Regret is in points of accuracy, of the trial that is chosen (the best value
seen) behind the best of the task, both by the best epoch; the cost is in epochs, as a share of the
full grid's. Means over orders, with 95 % bootstrap intervals. Where networks differ in what they
cost, regret is the mean over the whole grid's Pareto front of how far what was found at that cost
or less lies behind.
"""

import argparse
import heapq
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from joblib import Parallel, delayed
from matplotlib.axes import Axes

from search.algorithms.base import Algorithm
from search.decisions.driver import Driver
from search.design.experiment import Experiment
from search.journal.events import Started
from search.journal.journal import Journal
from search.space import SearchSpace
from search.values.statistics import standard_error
from tests.bench.curves import MADE_UP, Task, always, of_grid, recorded, sized
from tests.bench.rules import (
    Forecast,
    Halving,
    Median,
    Outcome,
    Progressive,
    Promoting,
    Rule,
    outcome,
    race,
)
from trainables.config import TrialConfig
from trainables.messages import Report
from trainables.values import Params

TITLES = (
    "| rule | regret, points | epochs | best kept | the best stopped: told, happened | time "
    "|\n|---|---|---|---|---|---|"
)
SURE = (0.0, 0.7, 0.88, 0.95)
OURS = "asha"
Kind = tuple[str, type[Rule], list[dict[str, int]] | list[dict[str, float]]]
OTHERS: list[Kind] = [
    (
        "halving that stops (Ray's ASHA)",
        Halving,
        [
            {"grace": 1, "reduction": 4},
            {"grace": 1, "reduction": 3},
            {"grace": 3, "reduction": 3},
            {"grace": 9, "reduction": 3},
        ],
    ),
    (
        "asynchronous Hyperband",
        Halving,
        [{"grace": 1, "reduction": reduction, "brackets": 3} for reduction in (4, 3, 2)],
    ),
    (
        "halving that promotes",
        Promoting,
        [{"grace": 1, "reduction": 3}, {"grace": 3, "reduction": 3}, {"grace": 9, "reduction": 3}],
    ),
    (
        "halving on forecasts",
        Forecast,
        [{"grace": 1, "reduction": 3}, {"grace": 3, "reduction": 3}, {"grace": 9, "reduction": 3}],
    ),
    (
        "PASHA",
        Progressive,
        [{"grace": 1, "reduction": 3}, {"grace": 3, "reduction": 3}, {"grace": 9, "reduction": 3}],
    ),
    ("median stopping", Median, [{"share": 0.01}, {"share": 0.05}, {"share": 0.2}]),
]
"""The rules of others: what we call each, and its settings."""
BINS = (0.02, 0.05, 0.1, 0.2, 0.4)


class Unkept(Journal):
    """A journal that leaves nothing on disk."""

    def _write_once(self, line: bytes) -> None:
        pass


class InOrder(Algorithm):
    """An algorithm that proposes a task's configurations in an order that the seed gives."""

    def __init__(self, params: list[Params], seed: int) -> None:
        self.left = [params[row] for row in np.random.default_rng(seed).permutation(len(params))]

    def ask(self, trial: str) -> Params | None:
        """Return the next configuration."""
        return self.left.pop() if self.left else None

    def replay(self, trial: str, params: Params) -> None:
        """Take the configuration out, so that it is not proposed again."""
        self.left.remove(params)


def experiment_of(task: Task, seed: int, storage: Path) -> Experiment:
    """Return a search over a task's configurations."""
    base = {"model.name": "table2", **task.base, "epochs": task.accuracies.shape[1]}
    space = SearchSpace(task.domains, base=base)
    return Experiment(
        name="replay",
        space_name=task.name,
        space=space,
        base=TrialConfig().override(base),
        algorithm="random",
        trials=len(task.params),
        seed=seed,
        storage=storage,
    )


def play(task: Task, seed: int, workers: int, **options: Any) -> Outcome:
    """Play a search with our driver and its scheduler; `options` are of `Experiment`."""
    rows = {json.dumps(params, sort_keys=True): row for row, params in enumerate(task.params)}
    reached = task.reached
    with TemporaryDirectory() as folder:
        experiment = replace(experiment_of(task, seed, Path(folder)), **options)
        journal = Unkept(experiment.folder)
        driver = Driver(experiment, journal, slots=workers)
        driver.policy.algorithm = InOrder(task.params, seed)  # type: ignore[attr-defined]
        driver.result.started = Started(data={"val": task.images} if task.images else {})
        epochs = list(
            trained(driver, task, lambda params: rows[json.dumps(params, sort_keys=True)])
        )
        driver.settle()
        journal.close()
    trials = {trial: row for _, trial, row in epochs}
    seen = {
        row: float(reached[row, max(driver.trials[trial].epochs) - 1])
        for trial, row in trials.items()
    }
    found, best = outcome(task, seen, len(epochs), epochs[-1][0]), int(reached[:, -1].argmax())
    error = standard_error(float(reached[best, -1]), task.images) if task.images else 0.0
    stopped = all(
        row != best or driver.trials[trial].outcome != "completed" for trial, row in trials.items()
    )
    risk = driver.result.risk
    told = (risk.chance if risk is not None else 0.0) if len(experiment.objectives) == 1 else None
    return replace(found, told=told, lost=stopped and found.regret > 100 * error)


def trained(
    driver: Driver, task: Task, row_of: Callable[[Params], int]
) -> Iterator[tuple[int, str, int]]:
    """Yield each epoch of a search in simulated time, before the driver hears of it.

    An epoch is the time of its end, its trial, and the trial's row in the task.
    """
    rows: dict[str, int] = {}
    ends: list[tuple[int, str]] = []
    now = 0
    while True:
        while (suggestion := driver.suggest()) is not None:
            trial = suggestion[0]
            rows.setdefault(trial, row_of(driver.trials[trial].params))
            driver.running(trial)
            heapq.heappush(ends, (now + 1, trial))
        if not ends:
            return
        now, trial = heapq.heappop(ends)
        yield now, trial, rows[trial]
        if not driver.report(
            trial, report(task, rows[trial], max(driver.trials[trial].epochs, default=0) + 1)
        ):
            heapq.heappush(ends, (now + 1, trial))


def report(task: Task, row: int, epoch: int) -> Report:
    """Return a worker's report after an epoch of a task's configuration."""
    cost = (
        {"inference": {"batch_1": {"median_ms": float(task.costs[row])}}}
        if task.costs is not None
        else None
    )
    accuracy = float(np.nan_to_num(task.accuracies[row, epoch - 1]))
    return replace(said(epoch, accuracy, is_last=epoch == task.accuracies.shape[1]), cost=cost)


def said(epoch: int, accuracy: float, *, is_last: bool) -> Report:
    """Return a worker's report after an epoch with this validation accuracy."""
    metrics = {
        "train/loss": 1 - accuracy,
        "val/loss": 1 - accuracy,
        "val/accuracy": accuracy,
        "lr": 0.1,
        "time/epoch_s": 1.0,
    }
    return Report(epoch, metrics, outcome="completed" if is_last else None)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean and its 95 % bootstrap interval."""
    draws = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    return float(np.mean(values)), *(float(bound) for bound in np.percentile(draws, [2.5, 97.5]))


def row_of(name: str, outcomes: list[Outcome]) -> str:
    """Return a rule's row of the table."""
    (regret, low, high), cost = (
        interval([one.regret for one in outcomes]),
        np.mean([one.cost for one in outcomes]),
    )
    kept, time = (
        np.mean([one.regret < 1e-9 for one in outcomes]),
        np.median([one.makespan for one in outcomes]),
    )
    told = [one.told for one in outcomes if one.told is not None]
    lost = f"{np.mean(told):.2f}, {np.mean([one.lost for one in outcomes]):.2f}" if told else ""
    return (
        f"| {name} | {regret:.2f} ({low:.2f} to {high:.2f}) | {100 * cost:.1f} % | "
        f"{100 * kept:.0f} % | {lost} | {time:,.0f} |"
    )


def curve(axes: Axes, name: str, found: dict[str, list[Outcome]]) -> None:
    """Draw points lost over epochs spent, a line for the settings of each rule."""
    kinds: dict[str, list[tuple[float, float]]] = {}
    for rule, outcomes in found.items():
        point = (
            100 * float(np.mean([one.cost for one in outcomes])),
            float(np.mean([one.regret for one in outcomes])),
        )
        kinds.setdefault(rule.split(",")[0], []).append(point)
    for kind, points in kinds.items():
        ours = kind == OURS
        axes.plot(
            *zip(*sorted(points), strict=True),
            marker="o",
            label=kind,
            zorder=3 if ours else 2,
            **({"lw": 2.5, "color": "black"} if ours else {"lw": 1, "ms": 4}),
        )
    axes.set_xscale("log")
    axes.set_xticks([1, 3, 10, 30, 100], labels=["1", "3", "10", "30", "100"], minor=False)
    axes.minorticks_off()
    axes.set_xlim(0.6, 100)
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_ylim(bottom=-0.01)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title(name, fontsize="medium")
    axes.grid(alpha=0.3)


def draw(found: dict[str, dict[str, list[Outcome]]], out: Path) -> None:
    """Draw the loss of each rule over what it spends, for every task."""
    figure, all_axes = plt.subplots(
        math.ceil(len(found) / 3),
        3,
        figsize=(12, 3.2 * math.ceil(len(found) / 3)),
        layout="constrained",
        squeeze=False,
    )
    for axes, (name, outcomes) in zip(all_axes.flat, found.items(), strict=False):
        curve(axes, name, outcomes)
    for axes in all_axes.flat[len(found) :]:
        axes.set_axis_off()
    figure.supxlabel("epochs, % of the whole grid's")
    figure.supylabel("points behind the best")
    figure.legend(*all_axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def reliable(found: dict[str, dict[str, list[Outcome]]], out: Path) -> None:
    """Draw how often the best was lost, of the searches that told about the same chance of it.

    All tasks and settings of `--sure` count.
    """
    ours = [
        one
        for rules in found.values()
        for outcomes in rules.values()
        for one in outcomes
        if one.told is not None
    ]
    told, lost = (
        np.array([one.told for one in ours]),
        np.array([one.lost for one in ours], dtype=float),
    )
    bins = np.digitize(told, BINS)
    figure, axes = plt.subplots(figsize=(4.5, 4.2), layout="constrained")
    axes.plot([0, 1], [0, 1], color="grey", lw=1, ls=":")
    end = 0.1
    for number in np.unique(bins):
        inside = bins == number
        place, (mean, low, high) = float(told[inside].mean()), interval(lost[inside].tolist())
        end = max(end, 1.2 * place, 1.1 * high)
        axes.errorbar(
            place, mean, [[mean - low], [high - mean]], color="black", marker="o", capsize=3
        )
        axes.annotate(f"{inside.sum()}", (place, mean), (5, -9), textcoords="offset points")
    axes.set(
        xlabel="told: the chance that the best was stopped",
        ylabel="happened",
        xlim=(0, end),
        ylim=(-0.02, end),
    )
    figure.savefig(out, dpi=110)
    plt.close(figure)


def rules() -> dict[str, Callable[[Task, int, int], Outcome]]:
    """Return our rule and the others, each at several settings, by name."""
    found: dict[str, Callable[[Task, int, int], Outcome]] = {
        f"{OURS}, --sure {sure:g}": lambda task, seed, workers, sure=sure: play(
            task, seed, workers, sure=sure
        )
        for sure in SURE
    }
    for title, kind, settings in OTHERS:
        for setting in settings:
            words = ", ".join(f"{name} {value:g}" for name, value in setting.items())
            found[f"{title}, {words}"] = lambda task, seed, workers, kind=kind, setting=setting: (
                race(task, seed, workers, kind, **setting)
            )
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Play all tasks, print the tables and draw the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--curves", type=Path, metavar="PLACE", help="a folder of recorded curves, or a file"
    )
    parser.add_argument(
        "--orders", type=int, default=20, metavar="N", help="searches of each task by each rule"
    )
    parser.add_argument("--workers", type=int, default=4, metavar="N")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the pictures go")
    args = parser.parse_args(argv)
    found: dict[str, dict[str, list[Outcome]]] = {}
    with Parallel(n_jobs=-1) as parallel:
        for make in [*(recorded(args.curves) if args.curves else ()), always(of_grid()), *MADE_UP]:
            task = make(0)
            print(
                f"\n{task.name}, {task.accuracies.shape[1]} epochs, {args.orders} orders, "
                f"{args.workers} workers\n\n{TITLES}"
            )
            found[task.name] = {}
            for name, rule in rules().items():
                found[task.name][name] = parallel(
                    delayed(rule)(make(seed), seed, args.workers) for seed in range(args.orders)
                )
                print(row_of(name, found[task.name][name]), flush=True)
            if args.out:
                draw(found, args.out / "stopping.png")
                reliable(found, args.out / "told.png")
    print(
        f"\n{sized(0).name}, 100 epochs, {args.orders} orders, {args.workers} workers: "
        "behind the Pareto front\n"
    )
    print(TITLES)
    for title, objectives in (
        ("ours, --objective val_accuracy,latency", ("val_accuracy", "latency")),
        ("ours, accuracy alone", ("val_accuracy",)),
    ):
        print(
            row_of(
                title,
                [
                    play(sized(seed), seed, args.workers, objectives=objectives)
                    for seed in range(100, 100 + args.orders)
                ],
            ),
            flush=True,
        )
    print(
        row_of(
            "Halving, grace 1, reduction 4",
            [
                race(sized(seed), seed, args.workers, Halving)
                for seed in range(100, 100 + args.orders)
            ],
        )
    )


if __name__ == "__main__":
    main()
