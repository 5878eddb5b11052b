"""Fit the coefficients of `asha` (`search.schedulers.asha`) to learning curves that are known.

    python -m tests.bench.fit_stopping --bench FOLDER [--out FILE]
    python -m tests.bench.fit_stopping --curves SEARCHES --out FILE

The first command writes the table of the package from the recorded curves in FOLDER and the made-up
ones; the second fits a user's own searches, with the made-up tasks beside them. A search is a task
if its trials ran to their ends (`--scheduler fifo`); early stopping leaves no ends to learn from.

The rule plays all tasks; at a share of its decisions the features of all candidates are kept, with
the one that is the best by the whole curves. A conditional logit is fitted to these states, the
rule plays again with the new coefficients, and so on: so the states are those that the rule itself
comes to. The chance of the order of play does not matter to `--sure P`, which only says when a
search ends; one that is played to a high P passes the ends of all lower ones.

Each suite (tasks of one origin) is then played by coefficients that are fitted without it. Printed
and written are the points lost, the share of the epochs, and how often the best was stopped beside
the chance that was told. The same data and seed give the same table.
"""

import argparse
import hashlib
import heapq
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy.optimize import minimize

from search.decisions.search_policy import course_of
from search.journal.journal import FILE_NAME
from search.journal.result import SearchResult
from search.schedulers.asha import FEATURES, Asha
from search.schedulers.base import NEW, Setting
from search.values.statistics import standard_error
from tests.bench.curves import (
    GRID,
    MADE_UP,
    Floats,
    MadeTask,
    Task,
    always,
    of_grid,
    recorded,
)
from trainables.config import TrialConfig

SEED = 0
SURE = (0.7, 0.88, 0.95)
PLAYED_TO = 0.97
"""How sure the searches are that states are taken from: beyond what most users want."""
ROUNDS, ORDERS = 5, 2
"""Rounds of playing and fitting, and orders of each task in each of them."""
LEFT_OUT_ORDERS = 5
"""Orders in which each task of a suite left out is played; the fit plays others."""
MANY_TASKS = 10
"""A suite of more tasks than this is played in at most `LEFT_OUT_ORDERS` orders."""
KEPT, KEPT_EARLY = 0.2, 0.03
"""The share of decisions that are kept, after the last new trial and before it."""
WORKERS = 4
SHRINKAGE = 0.003
"""Strength with which standardised coefficients are drawn to zero, beside the mean log loss."""
FIRST = dict(zip(FEATURES, (0.5, 0.1, -1.0, 1.2, 0.1, 0.0, -0.3, 0.0, -0.3), strict=True))
"""Coefficients of the first round: nearly those of an order alone."""
MIN_TRIALS = 20
"""The least number of whole trainings of a search that is a task."""
SUITES = {"alexnet_imagenet": "AlexNet", "deep_resnets_cifar10": "ResNets", "mnist_64": "MNIST"}


@dataclass(frozen=True)
class State:
    """The candidates at a decision: their features, and which of them is the best."""

    suite: str
    task: str
    features: Floats
    best: int
    """The index of the best, or the number of candidates if it is completed."""
    is_any_completed: bool


@dataclass(frozen=True)
class Ended:
    """The outcome of a search that was `sure` enough to end."""

    suite: str
    task: str
    sure: float
    regret: float
    cost: float
    chance: float
    was_lost: bool


class Play:
    """A search of a task by the rule, from rung to rung, in simulated time."""

    def __init__(
        self, suite: str, task: Task, seed: int, coefficients: dict[str, float], kept: float
    ) -> None:
        self.suite, self.task, self.kept = suite, task, kept
        self.horizon = task.accuracies.shape[1]
        self.asha = Asha(Setting(self.horizon, sure=PLAYED_TO), coefficients)
        self.asha.error_of = self._error_of  # type: ignore[method-assign]
        self.left = np.random.default_rng(seed).permutation(len(task.params)).tolist()
        self.generator = np.random.default_rng([SEED, seed])
        self.rows: list[int] = []
        """The row in the task of each training, by its number."""
        self.epochs: dict[int, int] = {}
        self.states: list[State] = []
        self.ends: list[Ended] = []
        self._wanted = list(SURE)

    def _error_of(self, value: float) -> float:
        images = self.task.images
        return standard_error(float(np.clip(value, 0, 1)), images) if images else 0.0

    def run(self) -> None:
        """Play the search to its end."""
        running: list[tuple[int, int]] = []
        now = 0
        while True:
            while len(running) < WORKERS and (trial := self._decide()) is not None:
                number = self._begin() if trial == NEW else int(trial)
                heapq.heappush(running, (now + self._promote(number, trial), number))
            if not running:
                break
            now, number = heapq.heappop(running)
            self._arrive(number)
        self._end_for(self._wanted)

    def _decide(self) -> str | None:
        """Choose, keep the state perhaps, and note where a search that is less sure ends."""
        asha, standings = self.asha, self.asha.standings
        trial = asha.choose(new=bool(self.left))
        if self.generator.random() < (KEPT_EARLY if self.left else KEPT) * self.kept:
            self._keep()
        if not self.left and standings.is_completed.any():
            chance = float(asha.chances()[standings.waits].sum())
            self._end_for([sure for sure in self._wanted if chance <= 1 - sure])
        return trial

    def _keep(self) -> None:
        numbers, features = self.asha.features()
        if len(numbers) < 2:
            return
        ends, completed = self.task.reached[:, -1], self._completed()
        candidates = ends[[self.rows[number] for number in numbers]]
        best = int(candidates.argmax())
        if completed and candidates[best] <= max(completed) + self._error_of(candidates[best]):
            best = len(numbers)
        self.states.append(
            State(self.suite, self.task.name, features, best, is_any_completed=bool(completed))
        )

    def _completed(self) -> list[float]:
        """Return the ends of the completed trainings."""
        done = np.flatnonzero(self.asha.standings.is_completed)
        return [float(self.task.reached[self.rows[number], -1]) for number in done]

    def _begin(self) -> int:
        number = len(self.rows)
        row = self.left.pop()
        config = TrialConfig().override({**self.task.base, **self.task.params[row]})
        course = course_of({**config.to_dict(), "epochs": self.horizon})
        self.rows.append(row)
        self.epochs[number] = 0
        self.asha.begin(str(number), {}, str(number), course)
        return number

    def _promote(self, number: int, trial: str) -> int:
        """Let a trial train to its next rung; return the number of epochs until then."""
        if trial != NEW:
            self.asha.go_on(trial)
        before = self.epochs[number]
        self.epochs[number] = next(int(end) for end in self.asha.ends if end > before)
        return self.epochs[number] - before

    def _arrive(self, number: int) -> None:
        epoch = self.epochs[number]
        value = float(self.task.reached[self.rows[number], epoch - 1])
        self.asha.on_epoch(str(number), epoch, value)
        if epoch == self.horizon:
            self.asha.end(str(number), "completed", value)

    def _end_for(self, sures: list[float]) -> None:
        """Record what a search that wants to be so sure has found."""
        reached = self.task.reached
        for sure in sures:
            self._wanted.remove(sure)
            standings = self.asha.standings
            came = {
                self.rows[number]: int(epoch)
                for number, epoch in enumerate(standings.furthest[: len(self.rows)])
            }
            chosen = max(came, key=lambda row: reached[row, max(came[row], 1) - 1])
            best = int(reached[:, -1].argmax())
            regret = float(reached[best, -1] - reached[chosen, -1])
            self.ends.append(
                Ended(
                    self.suite,
                    self.task.name,
                    sure,
                    100 * regret,
                    sum(self.epochs.values()) / self.task.accuracies.size,
                    float(self.asha.chances()[standings.waits].sum()),
                    came[best] < self.horizon and regret > self._error_of(reached[best, -1]),
                )
            )


class Logit:
    """The conditional logit of many states, each weighted by its suite and its task."""

    def __init__(self, states: Sequence[State]) -> None:
        self.features = np.concatenate([state.features for state in states])
        self.sizes = np.array([len(state.features) for state in states])
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.outside = np.array([float(state.is_any_completed) for state in states])
        self.best = np.array([state.best for state in states])
        self.weights = _weights(states)
        self.scale = self.features.std(axis=0) + 1e-9
        self.scale[0] = 1.0  # that is constant

    @cached_property
    def _chosen(self) -> Any:
        """The index of each state's best among all candidates, where it is one of them."""
        inside = self.best < self.sizes
        return inside, self.starts[inside] + self.best[inside]

    def loss(self, standardised: Floats) -> tuple[float, Floats]:
        """Return the mean log loss with shrinkage, and its gradient."""
        utilities = self.features @ (standardised / self.scale)
        top = np.maximum(np.maximum.reduceat(utilities, self.starts), 0.0)
        weights = np.exp(utilities - np.repeat(top, self.sizes))
        totals = np.add.reduceat(weights, self.starts) + self.outside * np.exp(-top)
        inside, chosen = self._chosen
        losses = np.log(totals) + top
        losses[inside] -= utilities[chosen]
        slopes = weights * np.repeat(self.weights / totals, self.sizes)
        slopes[chosen] -= self.weights[inside]
        gradient = self.features.T @ slopes / self.scale + SHRINKAGE * standardised
        penalty = SHRINKAGE / 2 * float(standardised @ standardised)
        return float(self.weights @ losses) + penalty, gradient

    def fit(self) -> dict[str, float]:
        """Return the coefficients, to four digits."""
        found = minimize(
            self.loss,
            np.zeros(len(FEATURES)),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 300},
        )
        return {
            name: float(f"{value:.4g}")
            for name, value in zip(FEATURES, found.x / self.scale, strict=True)
        }


def _weights(states: Sequence[State]) -> Floats:
    """Return weights that add up to 1: a suite counts by the root of the number of its tasks."""
    states_of: dict[tuple[str, str], int] = {}
    for state in states:
        key = state.suite, state.task
        states_of[key] = states_of.get(key, 0) + 1
    tasks = [suite for suite, _ in states_of]
    weights = np.array(
        [
            1 / states_of[state.suite, state.task] / tasks.count(state.suite) ** 0.5
            for state in states
        ]
    )
    return weights / weights.sum()


def fit(states: Sequence[State]) -> dict[str, float]:
    """Fit the coefficients to states whose best is known."""
    possible = [
        state for state in states if state.is_any_completed or state.best < len(state.features)
    ]
    return Logit(possible).fit()


Suites = dict[str, list[MadeTask]]


def suites_of(tasks: Sequence[MadeTask]) -> Suites:
    """Sort tasks by their origin; each made-up task is a suite of its own."""
    suites: Suites = {}
    for make in tasks:
        name = make(0).name
        suite = SUITES.get(name, name)
        if name.startswith("lcbench"):
            suite = "LCBench"
        elif suite == name and not name.startswith(("made up", "search")):
            suite = "DeepOBS"
        suites.setdefault(suite, []).append(make)
    return suites


def play_all(
    suites: Suites,
    coefficients_of: Callable[[str], dict[str, float]],
    orders: Sequence[int],
    *,
    kept: float,
) -> Iterator[tuple[list[State], list[Ended]]]:
    """Play all tasks in each of these orders, several at once; yield the states and the ends."""
    yield from Parallel(n_jobs=-1, return_as="generator")(
        delayed(_play)(suite, make, seed, coefficients_of(suite), kept)
        for suite, tasks in suites.items()
        for make in tasks
        for seed in orders
    )


def _play(
    suite: str, make: MadeTask, seed: int, coefficients: dict[str, float], kept: float
) -> tuple[list[State], list[Ended]]:
    play = Play(suite, make(seed), seed, coefficients, kept)
    play.run()
    return play.states, play.ends


def fitted(suites: Suites, *, rounds: int = ROUNDS, orders: int = ORDERS) -> list[State]:
    """Play and fit in turn; return the states of all rounds but the first."""
    states: list[State] = []
    coefficients = FIRST
    for number in range(rounds):
        seeds = range(1000 + orders * number, 1000 + orders * (number + 1))
        played = play_all(suites, lambda suite, known=coefficients: known, seeds, kept=1.0)
        new = [state for kept, _ in played for state in kept]
        states = [*states, *new] if number > 1 else new
        coefficients = fit(states)
        print(f"round {number + 1}: {len(new):,} states, {coefficients}", flush=True)
    return states


def left_out(suites: Suites, states: list[State], orders: int) -> list[Ended]:
    """Play each suite by coefficients that are fitted without it, each task in so many orders."""
    ended: list[Ended] = []
    for suite, tasks in suites.items():
        coefficients = fit([state for state in states if state.suite != suite])
        seeds = range(min(orders, LEFT_OUT_ORDERS) if len(tasks) > MANY_TASKS else orders)
        played = play_all({suite: tasks}, lambda _, known=coefficients: known, seeds, kept=0.0)
        ended += [one for _, ends in played for one in ends]
        print(f"played {suite}", flush=True)
    return ended


def summary(ends: Sequence[Ended]) -> dict[str, Any]:
    """Return the means over searches of one suite and one `sure`."""
    return {
        "searches": len(ends),
        "points": round(float(np.mean([ended.regret for ended in ends])), 3),
        "epochs": round(float(np.mean([ended.cost for ended in ends])), 4),
        "kept": round(float(np.mean([ended.regret < 1e-9 for ended in ends])), 3),
        "told": round(float(np.mean([ended.chance for ended in ends])), 3),
        "happened": round(float(np.mean([ended.was_lost for ended in ends])), 3),
    }


def table_of(ends: Sequence[Ended]) -> list[dict[str, Any]]:
    """Return a row for each `sure` and suite, and one for the mean over suites."""
    rows = []
    for sure in SURE:
        of_sure = [ended for ended in ends if ended.sure == sure]
        by_suite = [
            {"sure": sure, "suite": suite}
            | summary([ended for ended in of_sure if ended.suite == suite])
            for suite in dict.fromkeys(ended.suite for ended in of_sure)
        ]
        means = {
            key: round(float(np.mean([row[key] for row in by_suite])), 4)
            for key in ("points", "epochs", "kept", "told", "happened")
        }
        total = sum(row["searches"] for row in by_suite)
        rows += [*by_suite, {"sure": sure, "suite": "mean of suites", "searches": total} | means]
    return rows


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table of suites that were left out."""
    print("\n| P | suite left out | searches | points | epochs | kept | told | happened |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['sure']:g} | {row['suite']} | {row['searches']} | {row['points']:.3f} | "
            f"{row['epochs']:.1%} | {row['kept']:.2f} | {row['told']:.3f} | {row['happened']:.3f} |"
        )


def searches_in(storage: Path) -> Iterator[MadeTask]:
    """Yield the searches of a storage folder whose trials ran to their ends, as tasks.

    Scores count, so that higher is better; trials of another length than most are left out.
    """
    for folder in sorted(path.parent for path in storage.rglob(FILE_NAME)):
        result = SearchResult.read(folder)
        curves = {
            trial.trial: [
                result.metric.score_of(trial.epochs[epoch]) for epoch in sorted(trial.epochs)
            ]
            for trial in result.trials.values()
            if trial.outcome == "completed"
        }
        lengths = [len(curve) for curve in curves.values()]
        horizon = max(set(lengths), key=lengths.count, default=0)
        whole = [trial for trial, curve in curves.items() if len(curve) == horizon]
        if len(whole) < MIN_TRIALS:
            print(f"{folder.name}: {len(whole)} whole trainings, {MIN_TRIALS} needed; left out")
            continue
        yield always(
            Task(
                f"search {folder.name}",
                [result.trials[trial].params for trial in whole],
                np.array([curves[trial] for trial in whole]),
                images=result.images,
            )
        )


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(argv: Sequence[str] | None = None) -> None:
    """Fit, print the table of suites left out, and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--bench", type=Path, metavar="FOLDER", help="a folder of recorded curves")
    data.add_argument(
        "--curves", type=Path, metavar="SEARCHES", help="the folder that has the searches"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    parser.add_argument("--orders", type=int, default=ORDERS, metavar="N", help="of each task")
    parser.add_argument(
        "--left-out-orders",
        type=int,
        default=LEFT_OUT_ORDERS,
        metavar="N",
        help="orders in which each task of a suite left out is played",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the table goes")
    args = parser.parse_args(argv)
    if args.bench:
        tasks = [*recorded(args.bench), always(of_grid())]
        files = [
            GRID,
            *(
                path
                for path in sorted(args.bench.iterdir())
                if ".gz" in path.suffixes or path.suffix == ".npz"
            ),
        ]
    else:
        tasks = list(searches_in(args.curves))
        files = sorted(args.curves.rglob(FILE_NAME))
    suites = suites_of([*tasks, *MADE_UP])
    states = fitted(suites, rounds=args.rounds, orders=args.orders)
    rows = table_of(left_out(suites, states, args.left_out_orders))
    print_table(rows)
    table = {
        "coefficients": fit(states),
        "seed": SEED,
        "fit": {"rounds": args.rounds, "orders": args.orders},
        "states": len(states),
        "data": {str(Path(*path.parts[-2:])): hash_of(path) for path in files},
        "left_out_orders": args.left_out_orders,
        "left_out": rows,
    }
    text = json.dumps(table, indent=1) + "\n"
    if args.out:
        args.out.write_text(text, "utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
