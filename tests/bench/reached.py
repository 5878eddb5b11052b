"""How soon searches of the paper's Table III find what its whole grid finds, in real trainings on digits: `python -m tests.bench.reached [--seeds 3]`.

First the whole grid is trained, folded, unless `--grid` names one that was. Then each search goes on until it has a validation accuracy within
`--within` points of the grid's best, on the same split, with other seeds: ours, random (trained as ours are), and Optuna under Ray Tune's ASHA.
Counted are the epochs trained until then, and the seconds since the command began. Prints Markdown.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from search.journal import FILE_NAME, Event, read
from search.result import SearchResult
from tests.bench.commands import QUIET, execute, scratch
from tests.faults.harness import ROOT

UNFOLDED = 4860
"""Epochs of the whole grid, if each of its configurations is trained for itself."""
SPACE, SPLIT = ["--space", "table3"], ["--set", "data.split_seed=0"]
Found = tuple[int, float | None, float]
"""Epochs, seconds (None if the target was not reached), the best accuracy seen."""


def until(events: list[Event], target: float) -> Found:
    """What a search's journal says of the target."""
    result, best = SearchResult(), 0.0
    for event in events:
        result.apply(event)
        if event.kind == "epoch":
            best = max(best, event.data["metrics"]["val/accuracy"])
            if best >= target:
                return result.epochs_trained, (event.time_ms - result.started_ms) / 1000, best
    return result.epochs_trained, None, best


def ours(target: float, most: int, seed: int, *words: str) -> Found:
    """Our command, interrupted once it is there."""
    with scratch() as folder:
        given = [*SPACE, *SPLIT, "--trials", "243", "--budget", f"{most}epochs", "--seed", str(seed), "--name", "s", "--device", "cpu", "--sealed", *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **QUIET}
        command = subprocess.Popen(
            [sys.executable, "-m", "search.run", *given], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
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


def stock(target: float, most: int, seed: int) -> Found:
    """The peer."""
    with scratch() as folder:
        words = ["--target", target, "--most", most, "--seed", seed, "--trials", 1000, "--out", folder / "out"]
        printed, _, _ = execute(["tests.bench.peers.tune_optuna", *words], folder, longest_s=7200)
    figures = json.loads(printed.splitlines()[-1])
    return figures["epochs"], figures["seconds"], figures["best"]


def best_of_grid(given: Path | None) -> float:
    """The best validation accuracy of the whole grid."""
    if given is not None:
        best = SearchResult.read(given).best
        assert best is not None
        return best.accuracy
    with scratch() as folder:
        words = [*SPACE, "--algorithm", "grid", "--scheduler", "fifo", "--name", "grid", "--device", "cpu", "--sealed", "--json"]
        printed, _, _ = execute(["search.run", *words], folder, longest_s=4 * 3600)
    told = json.loads(printed.splitlines()[-1])
    print(f"the whole grid: {told['epochs_trained']} epochs in {told['wall_s']:.0f} s\n", flush=True)
    return float(told["best"]["val_accuracy"])


def cells(found: list[Found], most: int) -> list[str]:
    """Median and range; what was not reached counts as more than was tried."""
    epochs = sorted(epochs if seconds is not None else most + 1 for epochs, seconds, _ in found)
    seconds = sorted(seconds if seconds is not None else float("inf") for _, seconds, _ in found)

    def over(values: list[float], form: Callable[[float], str]) -> str:
        return f"{form(statistics.median_low(values))} ({form(values[0])} to {form(values[-1])})"

    def whole(value: float) -> str:
        return f"more than {most:,}" if value > most else f"{value:,.0f}"

    shares = over([100 * value / UNFOLDED for value in epochs], lambda share: "more" if share > 100 * most / UNFOLDED else f"{share:.1f} %")
    times = over(seconds, lambda value: "longer" if value == float("inf") else f"{value:.0f} s")
    return [over(list(map(float, epochs)), whole), shares, times, over(sorted(best for _, _, best in found), "{:.4f}".format)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=Path, metavar="FOLDER", help="of a search that was the whole grid, on the split 0")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--within", type=float, default=0.2, metavar="POINTS")
    parser.add_argument("--most", type=int, default=1000, metavar="EPOCHS", help="after which a search is given up")
    args = parser.parse_args()
    best = best_of_grid(args.grid)
    target = best - args.within / 100
    print(f"grid's best {best:.4f}; target {target:.4f}; seeds 1 to {args.seeds}\n\n| search | epochs | of the unfolded grid's | time | best seen |")
    print("|---" * 5 + "|", flush=True)
    sides: dict[str, Callable[[int], Found]] = {
        "ours": lambda seed: ours(target, args.most, seed),
        "random": lambda seed: ours(target, args.most, seed, "--algorithm", "random", "--scheduler", "fifo"),
        "OptunaSearch and ASHAScheduler": lambda seed: stock(target, args.most, seed),
    }
    found: dict[str, list[Found]] = {title: [] for title in sides}
    for seed in range(1, args.seeds + 1):
        for title, side in sides.items():
            found[title].append(side(seed))
            print(f"  seed {seed}, {title}: {found[title][-1]}", file=sys.stderr, flush=True)
    for title, outcomes in found.items():
        print(f"| {title} | {' | '.join(cells(outcomes, args.most))} |", flush=True)


if __name__ == "__main__":
    main()
