"""Time of a short search, stage by stage.

    python -m tests.bench.timeline [--data-root DIR] [--repetitions N] [--beside CHECKOUT]

Runs row P1's search as a whole command and prints when, in seconds after its process was started,
it came to each of its stages: by the journal's times, and at last by the clock of a user who waits
for the prompt. Beside another checkout of this project both run in turn, A B A B ..., and the last
column is the median of each repetition's ratio. `cpu` is what all processes of the command have
computed, in seconds, which another's load hardly changes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from tests.bench.commands import LONGEST_S, QUIET, Work, options, scratch
from tests.bench.table import machine
from tests.faults.harness import ROOT

STAGES = {
    "Ray is up": ("started", min),
    "the first trial runs": ("running", min),
    "the last epoch is over": ("epoch", max),
    "all trials are evaluated": ("evaluated", max),
    "the best is tested": ("tested", max),
    "the page is drawn": ("evidence", max),
}
"""Each with the event that tells it, and which of several."""
PROMPT, AFTER, CPU = "the prompt", "from the last epoch to the prompt", "cpu"
LOOK_S = 0.1


def stages(events: list[dict[str, Any]], began: float, ended: float) -> dict[str, float]:
    """Return the seconds after `began` at which a command came to each stage.

    The journal tells of the stages; `ended` is when its process was gone, both Unix times.
    """
    times = {
        stage: [event["time_ms"] / 1000 for event in events if event["event"] == kind]
        for stage, (kind, _) in STAGES.items()
    }
    found = {stage: STAGES[stage][1](at) - began for stage, at in times.items() if at}
    return {**found, PROMPT: ended - began, AFTER: ended - began - found["the last epoch is over"]}


def timed(work: Work, seed: int, checkout: Path) -> dict[str, float]:
    """Run the search as this checkout does."""
    with scratch() as folder:
        words = [sys.executable, "-m", "search.run", *map(str, options(work, seed, folder))]
        environment = {
            **os.environ,
            **QUIET,
            "PYTHONPATH": str(checkout),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        began = time.time()
        with (folder / "said").open("wb") as said:
            process = subprocess.Popen(
                words,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
            spent = computed(process)
        ended = time.time()
        if process.returncode:
            raise RuntimeError(
                f"{checkout}: the search ended with "
                f"{process.returncode}:\n{(folder / 'said').read_text()[-3000:]}"
            )
        journal = (folder / "searches" / "s" / "journal.jsonl").read_text()
    return {**stages([json.loads(line) for line in journal.splitlines()], began, ended), CPU: spent}


def computed(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process, and return the seconds that it and all that it started have computed.

    They are as they were last seen.
    """
    seen: dict[tuple[int, float], float] = {}
    until = time.monotonic() + LONGEST_S
    while process.poll() is None:
        if time.monotonic() > until:
            process.kill()
        try:
            for one in (whole := psutil.Process(process.pid), *whole.children(recursive=True)):
                seen[one.pid, one.create_time()] = sum(one.cpu_times()[:2])
        except psutil.Error:  # one ended meanwhile
            continue
        time.sleep(LOOK_S)
    return sum(seen.values())


def lines(ours: list[dict[str, float]], others: list[dict[str, float]]) -> list[str]:
    """Return the table."""
    head = (
        ["| seconds until | here | beside | ratio |", "|---|---|---|---|"]
        if others
        else ["| seconds until | here |", "|---|---|"]
    )
    rows = []
    for stage in ours[0]:
        mine, theirs = ([each[stage] for each in side] for side in (ours, others))
        cells = [stage, f"{statistics.median(mine):.1f}"]
        if others:
            ratio = statistics.median(his / own for his, own in zip(theirs, mine, strict=True))
            cells += [f"{statistics.median(theirs):.1f}", f"{ratio:.2f}x"]
        rows.append(f"| {' | '.join(cells)} |")
    return head + rows


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data-root",
        default="data",
        metavar="DIR",
        help="where torchvision's MNIST lies (default: data)",
    )
    parser.add_argument(
        "--repetitions", type=int, default=3, metavar="N", help="of each side (default: 3)"
    )
    parser.add_argument(
        "--trials", type=int, default=12, metavar="N", help="of the search (default: 12)"
    )
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="CHECKOUT",
        help="another checkout of this project, to be measured in turn with this one",
    )
    args = parser.parse_args()
    work, ours, others = (
        Work(data_root=args.data_root, trials=args.trials),
        list[dict[str, float]](),
        list[dict[str, float]](),
    )
    for repetition in range(args.repetitions):
        for side, checkout in ((ours, ROOT), (others, args.beside)):
            if checkout is not None:
                side.append(timed(work, repetition, checkout.absolute()))
                print(
                    checkout,
                    {stage: round(seconds, 1) for stage, seconds in side[-1].items()},
                    file=sys.stderr,
                    flush=True,
                )
    print(
        *lines(ours, others), f"\nMedians of {args.repetitions} repetitions. {machine()}", sep="\n"
    )


if __name__ == "__main__":
    main()
