"""The tables of searches in docs/benchmarks.md, measured here.

`make bench`, or `python tests/bench/tables.py digits|mnist [--data-root DIR]`.

Each row is the real command in a process of its own. Prints Markdown. `digits` takes about 8
minutes on 2 cores, `mnist` 30.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from typing import Any

PAPER = [
    "optimizer.lr=0.001",
    "batch_size=64",
    "epochs=20",
    "model.layers=10",
    "model.filter_size=3",
]
PATHS = ("optimizer.lr", "batch_size", "epochs", "model.layers", "model.filter_size")
HEADER = (
    "| search | trials | epochs trained | wall time, s | best val accuracy | test accuracy | "
    "found: rate, batch, epochs, layers, filter |"
)


def search(*options: str) -> dict[str, Any]:
    """Run one search in a scratch folder and return what `--json` says."""
    with tempfile.TemporaryDirectory() as scratch:
        places = ["--storage", scratch, "--tracking", f"sqlite:///{scratch}/mlflow.db", "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "search.run", "--space", "table3", *places, *options],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    if done.returncode not in (0, 3):
        raise SystemExit(f"search.run {' '.join(options)} ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(title: str, results: list[dict[str, Any]], fixed: dict[str, Any] | None = None) -> str:
    """Return one line: medians over the seeds, with the range where there are several.

    What is found is that of the median search.
    """

    def over(values: list[float], form: str) -> str:
        middle = form.format(statistics.median_low(values))
        return (
            middle
            if len(values) == 1
            else f"{middle} ({form.format(min(values))} to {form.format(max(values))})"
        )

    typical = sorted(results, key=lambda result: float(result["best"]["val_accuracy"]))[
        (len(results) - 1) // 2
    ]
    params = {**(fixed or {}), **typical["best"]["params"]}
    found = ", ".join(f"{params[path]:g}" for path in PATHS)
    trials = statistics.median_low([sum(result["trials"].values()) for result in results])
    figures = [
        over([result["epochs_trained"] for result in results], "{:.0f}"),
        over([result["wall_s"] for result in results], "{:.0f}"),
        over([result["best"]["val_accuracy"] for result in results], "{:.4f}"),
        over([result["best"]["test_accuracy"] for result in results], "{:.4f}"),
    ]
    return f"| {title} | {trials} | {' | '.join(figures)} | {found} |"


def table(rows: list[tuple[str, list[str]]], common: list[str], seeds: list[int]) -> None:
    """Print a table as it is measured."""
    print(HEADER, "|---" * 7 + "|", sep="\n", flush=True)
    for title, options in rows:
        wanted = seeds[:1] if "grid" in options else seeds
        print(
            row(title, [search(*common, *options, "--seed", str(seed)) for seed in wanted]),
            flush=True,
        )
    settings = [part for setting in PAPER for part in ("--set", setting)]
    paper = {
        path: float(setting.partition("=")[2]) for path, setting in zip(PATHS, PAPER, strict=True)
    }
    results = [
        search(
            *common, *settings, "--algorithm", "grid", "--scheduler", "fifo", "--seed", str(seed)
        )
        for seed in seeds
    ]
    print(row("the paper's best row alone", results, paper), flush=True)


def pairs(trials: dict[str, int]) -> list[tuple[str, list[str]]]:
    """Return random and Bayesian searches, each without and with early stopping."""
    return [
        (
            f"{algorithm} + {scheduler}",
            [
                "--algorithm",
                algorithm,
                "--scheduler",
                scheduler,
                "--trials",
                str(trials[scheduler]),
            ],
        )
        for algorithm in ("random", "bayes")
        for scheduler in ("fifo", "asha")
    ]


def digits() -> None:
    """Print the whole grid at 3 epochs a trial, and searches with a tenth of its epochs.

    Three seeds each.
    """
    grid = ("the whole grid", ["--algorithm", "grid", "--scheduler", "fifo"])
    table([grid, *pairs({"fifo": 24, "asha": 42})], ["--max-epochs", "3"], [1, 2, 3])


def mnist(data_root: str) -> None:
    """Print searches of 24 trials of at most 6 epochs on 10,000 training images, one seed."""
    data = [
        "--data",
        "mnist",
        "--data-root",
        data_root,
        "--max-epochs",
        "6",
        "--set",
        "data.train_limit=10000",
    ]
    table(pairs({"fifo": 24, "asha": 24}), data, [1])


def main() -> None:
    """Print the table that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=("digits", "mnist"))
    parser.add_argument("--data-root", default="data")
    args = parser.parse_args()
    digits() if args.table == "digits" else mnist(args.data_root)


if __name__ == "__main__":
    main()
