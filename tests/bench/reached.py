"""Time until searches of the paper's Table III find what its whole grid finds.

    python -m tests.bench.reached [--seeds 3]

In real trainings on digits. First the whole grid is trained, folded, unless `--grid` names one that
was. Then each search goes on until it has a validation accuracy within `--within` points of the
grid's best: ours, random (trained as ours are), and Optuna under Ray Tune's ASHA. Split and
trainings have the grid's seed, 0, for all; what is tried, and in which order, is that of the
search's own. With `--orders` all three are played on the grid's own curves too, so often that luck
shows. Counted are the epochs trained until then, and the seconds since the command began. Prints
Markdown.
"""

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import optuna

from search.decisions.driver import Driver
from search.design.experiment import Experiment
from search.journal.journal import FILE_NAME, Event, read
from search.journal.result import SearchResult
from search.spaces.find import find
from tests.bench.commands import QUIET, execute, scratch
from tests.bench.replay import Unkept, said
from tests.faults.harness import ROOT
from trainables.config import TrialConfig, training_key_of

UNFOLDED = 4860
"""Epochs of the whole grid, if each of its configurations is trained for itself."""
SPACE, TRAINED = ["--space", "table3"], ["--set", "data.split_seed=0", "--set", "seed=0"]
Found = tuple[int, float | None, float]
"""Epochs, seconds (None if the target was not reached), the best accuracy seen."""


def until(events: list[Event], target: float) -> Found:
    """Return what a search's journal says of the target."""
    result, best = SearchResult(), 0.0
    for event in events:
        result.apply(event)
        if event.kind == "epoch":
            best = max(best, event.data.metrics["val/accuracy"])
            if best >= target:
                return result.epochs_trained, result.wall_s, best
    return result.epochs_trained, None, best


def ours(target: float, most: int, seed: int, *words: str) -> Found:
    """Run our command, interrupted once it is there."""
    with scratch() as folder:
        given = [
            *SPACE,
            *TRAINED,
            "--trials",
            "243",
            "--budget",
            f"{most}epochs",
            "--seed",
            str(seed),
            "--name",
            "s",
            "--device",
            "cpu",
            "--sealed",
            *words,
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **QUIET}
        command = subprocess.Popen(
            [sys.executable, "-m", "search.run", *given],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        journal = folder / "searches" / "s" / FILE_NAME
        found: Found = (0, None, 0.0)
        while command.poll() is None and found[1] is None:
            time.sleep(0.5)
            found = until(read(journal), target) if journal.exists() else found
        if command.poll() is None:
            command.send_signal(signal.SIGINT)
        command.wait()
        return until(read(journal), target)


def stock_played(grid: SearchResult, target: float, most: int, seed: int) -> Found:
    """Play a search as the peer searches.

    A trial stops at epoch 1, 4 or 16 if it is not among the best quarter of those that came there
    before, by the accuracy of that very epoch, and what it had then is all that Optuna hears of it.
    What was trained before is trained again.
    """
    curves, base, best, epochs = curves_of(grid), base_config(grid), 0.0, 0
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    rungs: dict[int, list[float]] = {1: [], 4: [], 16: []}
    running: deque[tuple[optuna.Trial, list[float], int]] = deque()
    while best < target and epochs < most:
        while len(running) < 2:
            asked = study.ask()
            config = base.override(
                {
                    path: asked.suggest_categorical(path, domain.values)
                    for path, domain in find("table3").domains.items()
                }
            )
            running.append((asked, curves[training_key_of(config.to_dict())][: config.epochs], 1))
        asked, curve, epoch = running.popleft()
        epochs, value = epochs + 1, curve[epoch - 1]
        best, is_over = max(best, value), epoch == len(curve)
        if epoch in rungs:
            is_over |= bool(rungs[epoch]) and value < np.percentile(rungs[epoch], 75)
            rungs[epoch].append(value)
        if is_over:
            study.tell(asked, value)
        else:
            running.append((asked, curve, epoch + 1))
    return epochs, float(epochs) if best >= target else None, best


def stock(target: float, most: int, seed: int) -> Found:
    """Run the peer."""
    with scratch() as folder:
        words = [
            "--target",
            target,
            "--most",
            most,
            "--seed",
            seed,
            "--trials",
            1000,
            "--out",
            folder / "out",
        ]
        printed, _, _ = execute(["tests.bench.peers.tune_optuna", *words], folder, longest_s=7200)
    figures = json.loads(printed.splitlines()[-1])
    return figures["epochs"], figures["seconds"], figures["best"]


def whole_grid(given: Path | None) -> SearchResult:
    """Return the search that was the whole grid."""
    if given is not None:
        return SearchResult.read(given)
    with scratch() as folder:
        words = [
            *SPACE,
            *TRAINED,
            "--algorithm",
            "grid",
            "--scheduler",
            "fifo",
            "--name",
            "grid",
            "--device",
            "cpu",
            "--sealed",
        ]
        execute(["search.run", *words], folder, longest_s=4 * 3600)
        result = SearchResult.read(folder / "searches" / "grid")
    print(f"the whole grid: {result.epochs_trained} epochs in {result.wall_s:.0f} s\n", flush=True)
    return result


def curves_of(grid: SearchResult) -> dict[str, list[float]]:
    """Return the validation accuracies of each training, by its key."""
    curves: dict[str, list[float]] = {}
    for trial in grid.trials.values():
        training, accuracies = (
            training_key_of(trial.config),
            [metrics["val/accuracy"] for metrics in trial.epochs.values()],
        )
        curves[training] = max(curves.get(training, []), accuracies, key=len)
    return curves


def base_config(grid: SearchResult) -> TrialConfig:
    """Return what all its trials have in common."""
    return TrialConfig.from_dict(grid.started.experiment["base"])


def played(grid: SearchResult, target: float, most: int, seed: int, **options: Any) -> Found:
    """Play a search of our driver's, two trials at once, on the curves of the grid's trainings.

    It goes on until it is there, has an end, or has trained so many epochs.
    """
    curves = curves_of(grid)
    trained, best, epochs = dict.fromkeys(curves, 0), 0.0, 0
    with TemporaryDirectory() as folder:
        about: dict[str, Any] = {
            "space_name": "table3",
            "space": find("table3"),
            "base": base_config(grid),
            "trials": 243,
            **options,
        }
        experiment = Experiment(name="played", seed=seed, storage=Path(folder), **about)
        journal, running = Unkept(experiment.folder), deque[str]()
        driver = Driver(experiment, journal, slots=2)
        while best < target and epochs < most:
            while (suggestion := driver.suggest()) is not None:
                driver.running(suggestion[0])
                running.append(suggestion[0])
            if not running:
                break
            trial, is_over, more = running.popleft(), False, True
            training, last = (
                training_key_of(driver.trials[trial].config),
                driver.trials[trial].config["epochs"],
            )
            while more:
                epoch = max(driver.trials[trial].epochs, default=0) + 1
                if epoch > trained[training]:
                    trained[training], epochs, best = (
                        epoch,
                        epochs + 1,
                        max(best, curves[training][epoch - 1]),
                    )
                more = epoch < min(trained[training], last)
                is_over = driver.report(
                    trial,
                    replace(
                        said(epoch, curves[training][epoch - 1], is_last=epoch == last), more=more
                    ),
                )
            if not is_over:
                running.append(trial)
        journal.close()
    return epochs, float(epochs) if best >= target else None, best


PLAYED_TITLES = (
    "| search | got there | a quarter after | half after | within 243 epochs | best seen, mean |"
)


def played_row(title: str, found: list[Found]) -> str:
    """Return how many got there, and after how many epochs a quarter and a half of all had."""
    there = sorted(epochs for epochs, reached, _ in found if reached is not None)
    after = [
        str(there[place]) if (place := math.ceil(len(found) * share) - 1) < len(there) else "never"
        for share in (0.25, 0.5)
    ]
    soon, best = (
        sum(epochs <= UNFOLDED // 20 for epochs in there),
        statistics.mean(best for _, _, best in found),
    )
    return (
        f"| {title} | {len(there)} of {len(found)} | {after[0]} | {after[1]} | {soon} | "
        f"{best:.4f} |"
    )


def explained(grid: SearchResult, least: float = 0.9) -> dict[int, float]:
    """Return, by epoch, the part of the final variance that the best value until then explains.

    Counted are the trainings that come to at least this much.
    """
    best = np.array([np.maximum.accumulate(curve) for curve in curves_of(grid).values()])
    learned = best[best[:, -1] > least]
    return {
        epoch: float(np.corrcoef(learned[:, epoch - 1], learned[:, -1])[0, 1] ** 2)
        for epoch in (1, 2, 4, 8, 16)
    }


def cells(found: list[Found], most: int) -> list[str]:
    """Return median and range; what was not reached counts as more than was tried."""
    epochs = sorted(epochs if seconds is not None else most + 1 for epochs, seconds, _ in found)
    seconds = sorted(seconds if seconds is not None else float("inf") for _, seconds, _ in found)

    def over(values: list[float], form: Callable[[float], str]) -> str:
        return f"{form(statistics.median_low(values))} ({form(values[0])} to {form(values[-1])})"

    def whole(value: float) -> str:
        return f"more than {most:,}" if value > most else f"{value:,.0f}"

    shares = over(
        [100 * value / UNFOLDED for value in epochs],
        lambda share: "more" if share > 100 * most / UNFOLDED else f"{share:.1f} %",
    )
    times = over(seconds, lambda value: "longer" if value == float("inf") else f"{value:.0f} s")
    return [
        over(list(map(float, epochs)), whole),
        shares,
        times,
        over(sorted(best for _, _, best in found), "{:.4f}".format),
    ]


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--grid",
        type=Path,
        metavar="FOLDER",
        help="of a search that was the whole grid; with --seeds above 0, of seed 0",
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--within", type=float, default=0.2, metavar="POINTS")
    parser.add_argument(
        "--orders", type=int, default=20, metavar="N", help="searches of each kind that are played"
    )
    parser.add_argument(
        "--played",
        type=int,
        default=UNFOLDED,
        metavar="EPOCHS",
        help="after which one that is played is given up",
    )
    parser.add_argument(
        "--most", type=int, default=1000, metavar="EPOCHS", help="after which a search is given up"
    )
    return parser


def main() -> None:
    """Measure and print."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    args = command_line().parse_args()
    grid = whole_grid(args.grid)
    assert grid.best is not None
    target = grid.best.primary_value - args.within / 100
    print(f"grid's best {grid.best.primary_value:.4f}; target {target:.4f}\n")
    if args.seeds:
        print(
            (
                f"seeds 1 to {args.seeds}\n\n| search | epochs | of the unfolded grid's | "
                f"time | best seen |\n{'|---' * 5}|"
            ),
            flush=True,
        )
    sides: dict[str, Callable[[int], Found]] = {
        "ours": lambda seed: ours(target, args.most, seed),
        "random": lambda seed: ours(
            target, args.most, seed, "--algorithm", "random", "--scheduler", "fifo"
        ),
        "OptunaSearch and ASHAScheduler": lambda seed: stock(target, args.most, seed),
    }
    found: dict[str, list[Found]] = {title: [] for title in sides}
    for seed in range(1, args.seeds + 1):
        for title, side in sides.items():
            found[title].append(side(seed))
            print(f"  seed {seed}, {title}: {found[title][-1]}", file=sys.stderr, flush=True)
    for title, outcomes in found.items() if args.seeds else ():
        print(f"| {title} | {' | '.join(cells(outcomes, args.most))} |", flush=True)
    if args.orders:
        shares = ", ".join(f"{epoch}: {share:.2f}" for epoch, share in explained(grid).items())
        print(
            "\nvariance of what the trainings above 0.9 come to, explained by their best "
            f"until epoch {shares}"
        )
        print(
            (
                f"\nplayed on the grid's curves, {args.orders} orders, until there or after "
                f"{args.played:,} epochs\n\n{PLAYED_TITLES}\n{'|---' * 6}|"
            ),
            flush=True,
        )
    rules: dict[str, Callable[[int], Found]] = {
        "ours": lambda seed: played(grid, target, args.played, seed),
        "random": lambda seed: played(
            grid, target, args.played, seed, algorithm="random", scheduler="fifo"
        ),
        "OptunaSearch and ASHAScheduler": lambda seed: stock_played(
            grid, target, args.played, seed
        ),
    }
    for title, rule in rules.items() if args.orders else ():
        print(played_row(title, [rule(seed) for seed in range(args.orders)]), flush=True)


if __name__ == "__main__":
    main()
