"""Samplers beside our stopping rule, on learning curves that are known.

Proposals are free, and each trains as the nearest training does.

    python -m tests.bench.sampled --curves FOLDER [--algorithms random bayes gp]

Told is how far the best value seen lies behind the best of all, in points, once so many of the
epochs were spent that `TRIALS` whole trainings would take: means over seeds, with 95 % bootstrap
intervals.
"""

import argparse
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from search.algorithms.registry import ALGORITHMS
from search.decisions.driver import Driver
from search.journal.events import Started
from search.space import Cases, Choice, Domain, Float, Range, SearchSpace
from tests.bench.curves import MADE_UP, Task, always, of_grid, recorded
from tests.bench.replay import Unkept, experiment_of, interval, trained
from trainables.values import Params

TRIALS = 100
AFTER = (0.04, 0.08, 0.12, 0.16)


class Table:
    """A task as a function of its parameters: its numbers are free within their range."""

    def __init__(self, task: Task) -> None:
        domains = {path: _free(choice) for path, choice in task.domains.items()}
        self.task, self.space = (
            task,
            SearchSpace(
                domains,
                base={"model.name": "table2", **task.base, "epochs": task.accuracies.shape[1]},
            ),
        )
        self._rows = np.array([self._point(params) for params in task.params])

    def row(self, params: Params) -> int:
        """Return the training that is nearest."""
        return int(((self._rows - self._point(params)) ** 2).sum(axis=1).argmin())

    def _point(self, params: Params) -> Any:
        return np.array(
            [
                number
                for path, domain in self.space.domains.items()
                for number in _point(domain, params.get(path))
            ]
        )


def _point(domain: Domain, value: Any) -> list[float]:
    """Return a parameter's value as numbers.

    For numbers they are its place between the ends of its domain, or among its options, from 0 to
    1, and a 0; if the parameter is not there, 0 and 1. For options without an order there is a
    number for each option.
    """
    known = list(domain.values if isinstance(domain, Choice) else domain.extremes)
    if not all(
        isinstance(option, int | float) and not isinstance(option, bool) for option in known
    ):
        # With this factor, two different options are at a distance of 1.
        return [math.sqrt(0.5) * (option == value) for option in known]
    if not isinstance(value, int | float):
        return [0.0, 1.0]
    if isinstance(domain, Choice):
        return [float(np.interp(value, sorted(known), np.linspace(0, 1, len(known)))), 0.0]
    cases = domain.cases if isinstance(domain, Cases) else (domain,)
    scale = (
        math.log
        if any(isinstance(case, Range) and case.log for case in cases) and min(known) > 0
        else float
    )
    low, high = scale(min(known)), scale(max(known))
    return [
        (scale(min(max(value, min(known)), max(known))) - low) / (high - low)
        if high > low
        else 0.0,
        0.0,
    ]


def _free(choice: Choice) -> Choice | Float:
    numbers = [value for value in choice.values if isinstance(value, float)]
    if len(numbers) < len(choice.values) or len(numbers) < 5:
        return choice
    return Float(min(numbers), max(numbers), log=min(numbers) > 0, when=choice.when)


def search(task: Task, algorithm: str, seed: int, workers: int) -> list[float]:
    """Return the points behind after each share of the epochs."""
    table, horizon = Table(task), task.accuracies.shape[1]
    with TemporaryDirectory() as folder:
        experiment = replace(
            experiment_of(task, seed, Path(folder)),
            space=table.space,
            algorithm=algorithm,
            trials=TRIALS,
        )
        journal = Unkept(experiment.folder)
        driver = Driver(experiment, journal, slots=workers)
        driver.result.started = Started(data={"val": task.images} if task.images else {})
        seen = [
            float(task.reached[row, max(driver.trials[trial].epochs, default=0)])
            for _, trial, row in trained(driver, task, table.row)
        ]
        journal.close()
    best = float(task.reached[:, -1].max())
    found = np.maximum.accumulate(seen)
    return [
        100 * (best - float(found[min(len(found), round(share * TRIALS * horizon)) - 1]))
        for share in AFTER
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Search all tasks and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--curves", type=Path, metavar="PLACE", help="a folder of recorded curves, or a file"
    )
    parser.add_argument(
        "--algorithms",
        nargs="+",
        choices=ALGORITHMS,
        default=["random", "bayes"],
        metavar="NAME",
        help="default: random bayes; gp takes an hour",
    )
    parser.add_argument("--seeds", type=int, default=20, metavar="N")
    parser.add_argument("--workers", type=int, default=4, metavar="N")
    args = parser.parse_args(argv)
    print(
        "| task | algorithm | "
        f"{' | '.join(f'after {100 * share:g} %' for share in AFTER)} "
        f"|\n{'|---' * (2 + len(AFTER))}|"
    )
    with Parallel(n_jobs=-1) as parallel:
        for make in [*(recorded(args.curves) if args.curves else ()), always(of_grid()), *MADE_UP]:
            for algorithm in args.algorithms:
                found = np.array(
                    parallel(
                        delayed(search)(make(seed), algorithm, seed, args.workers)
                        for seed in range(args.seeds)
                    )
                )
                told = [
                    "{:.2f} ({:.2f} to {:.2f})".format(*interval(column.tolist()))
                    for column in found.T
                ]
                print(f"| {make(0).name} | {algorithm} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()
