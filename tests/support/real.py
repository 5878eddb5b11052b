"""Real searches, as a user would run them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from search.journal.result import SearchResult

Done = tuple[subprocess.CompletedProcess[str], dict[str, Any]]


def run_in(folder: Path, *words: object, timeout: float = 1000) -> Done:
    """Run a search in a folder and return the process with its `--json` line."""
    command = [sys.executable, "-m", "search.run", "--json", "--device", "cpu", *map(str, words)]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False
    )
    lines = done.stdout.splitlines()
    assert lines, done.stderr
    return done, json.loads(lines[-1])


def metrics_of(summary: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Params, outcome and metrics of every trial, without the times."""
    result = SearchResult.read((folder / summary["journal"]).parent)
    without_times = {
        name: [
            {key: value for key, value in metrics.items() if key != "time/epoch_s"}
            for metrics in trial.epochs.values()
        ]
        for name, trial in result.trials.items()
    }
    return {
        name: (trial.params, trial.outcome, without_times[name])
        for name, trial in result.trials.items()
    }


def children_of(summary: dict[str, Any], folder: Path) -> list[Run]:
    where = summary["mlflow"]
    uri = where["tracking_uri"].replace("sqlite:///mlflow.db", f"sqlite:///{folder}/mlflow.db")
    return list(
        MlflowClient(uri).search_runs(
            [where["experiment_id"]],
            f"tags.mlflow.parentRunId = '{where['parent_run_id']}'",
            max_results=5000,
        )
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Look every tenth of a second until the condition holds; fail when the process ends before."""
    for _ in range(6000):
        if condition():
            return
        try:
            process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"ended early with {process.returncode}: {process.communicate()}")
    raise AssertionError("waited ten minutes in vain")
