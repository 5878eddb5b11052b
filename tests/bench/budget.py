"""Precision with which a budget of time is kept.

    python -m tests.bench.budget [--budget 20s] [--more 60s] [--times 10]

Starts `python -m search.run --space table3 --budget 20s` so many times, each in a storage of its
own, and prints how long the whole command took by the wall clock, what it says of itself, and what
was cut off in mid-training; then the resume with more, which must train on where each was cut off.
Takes a quarter of an hour on 2 quiet cores.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from search.design.budget import limit
from search.journal.journal import FILE_NAME, Event, read
from search.journal.result import SearchResult
from tests.bench.commands import LONGEST_S, QUIET, scratch
from tests.faults.harness import ROOT

TITLES = (
    "run",
    "wall s",
    "first trial s",
    "last epoch s",
    "it says",
    "epochs",
    "cut off",
    "resume s",
    "epochs",
    "gone on with",
    "trained twice",
)
USED = re.compile(r"^used (\d+%) of the .* budget", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """One command: how long it took in all, what it said, and what the journal tells after it."""

    wall_s: float
    said: str
    result: SearchResult
    events: list[Event]

    @property
    def epochs(self) -> list[Event]:
        """The events of trained epochs."""
        return [event for event in self.events if event.kind == "epoch"]

    @property
    def used(self) -> str:
        """The share of its budget that it says it used."""
        found = USED.search(self.said)
        return found[1] if found else "-"

    @property
    def cut_off(self) -> dict[str, int]:
        """Trials that wait in mid-training, and how far each came.

        Those that wait at a rung are none.
        """
        return {
            one.trial: max(one.epochs, default=0)
            for one in self.result.trials.values()
            if one.outcome == "interrupted"
        }


def called(verb: str, folder: Path, *words: str) -> Command:
    """Run a verb on the one search of this folder."""
    line = [
        sys.executable,
        "-m",
        f"search.{verb}",
        *words,
        "--storage",
        str(folder / "searches"),
        "--tracking",
        f"sqlite:///{folder}/mlflow.db",
    ]
    began = time.monotonic()
    done = subprocess.run(
        line,
        cwd=ROOT,
        env={**os.environ, **QUIET},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    wall_s = time.monotonic() - began
    if done.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(line)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    home = folder / "searches" / "s"
    return Command(
        wall_s, done.stdout + done.stderr, SearchResult.read(home), read(home / FILE_NAME)
    )


def row(number: int, budget: str, more: str) -> tuple[float, list[str]]:
    """Run one search and its resume; return the command's seconds, and the table's row."""
    with scratch() as folder:
        first = called(
            "run", folder, "--name", "s", "--space", "table3", "--device", "cpu", "--budget", budget
        )
        again = called("resume", folder, "s", "--budget", more)
    began = first.result.started_ms
    starts = [trial.started_ms for trial in first.result.trials.values() if trial.started_ms]
    last = max((event.time_ms for event in first.epochs), default=0)
    further = {
        name: max(again.result.trials[name].epochs, default=0) - epoch
        for name, epoch in first.cut_off.items()
    }
    twice = len(again.epochs) - len(
        {(event.data.trial, event.data.epoch) for event in again.epochs}
    )
    return first.wall_s, [
        str(number),
        f"{first.wall_s:.1f}",
        f"{(min(starts) - began) / 1000:.1f}" if starts else "-",
        f"{(last - began) / 1000:.1f}" if last else "-",
        first.used,
        str(first.result.epochs_trained),
        ", ".join(f"{name} at {epoch}" for name, epoch in first.cut_off.items()) or "-",
        f"{again.wall_s:.1f}",
        str(again.result.epochs_trained),
        ", ".join(f"{name} +{epochs}" for name, epochs in further.items()) or "-",
        str(twice),
    ]


def main() -> None:
    """Print the table as it grows, and the longest command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.budget",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--budget", default="20s", help="of the search (default: 20s)")
    parser.add_argument(
        "--more", default="60s", help="of its resume, for both together (default: 60s)"
    )
    parser.add_argument("--times", type=int, default=10, help="how often (default: 10)")
    args = parser.parse_args()
    amount = limit(args.budget).amount
    print("| " + " | ".join(TITLES) + " |\n" + "|---" * len(TITLES) + "|", flush=True)
    walls = []
    for number in range(1, args.times + 1):
        wall_s, cells = row(number, args.budget, args.more)
        walls.append(wall_s)
        print("| " + " | ".join(cells) + " |", flush=True)
    print(f"\nthe longest command: {max(walls):.1f} s of {args.budget} ({max(walls) / amount:.0%})")


if __name__ == "__main__":
    main()
