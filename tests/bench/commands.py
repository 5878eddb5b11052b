"""Both sides as commands.

They are this project's real one, read through its journal, and the peers, which print a line of
JSON.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from cluster.runtime.session import ENVIRONMENT, LOOPBACK
from tests.bench.table import Figures
from tests.faults.harness import ROOT, wait_for
from tests.support.ports import free_port
from trainables.config import DataConfig
from trainables.datasets.arrays import Decoded, Part
from trainables.datasets.load import Whole, divide
from trainables.datasets.sources import decode

SPACE = (
    "\nfrom search.space import Choice, SearchSpace\n"
    'space = SearchSpace({{"optimizer.lr": Choice(*{lrs})}}, base={{"model.name": "table2", '
    '"model.width": 32, "epochs": {epochs}, "batch_size": {batch}}})\n'
)

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""The environment of every command: nothing that is measured phones home."""

LONGEST_S = 1200
"""The most seconds that a command may take."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Short MNIST trials that differ in their learning rate alone."""

    data_root: str
    trials: int = 12
    epochs: int = 2
    train: int = 4000
    val: int = 2000
    batch: int = 64
    slots: int = 2

    def lrs(self, seed: int) -> list[float]:
        """Return learning rates, log-uniform between 1e-4 and 1e-1."""
        return [
            float(f"{lr:.4g}")
            for lr in 10 ** np.random.default_rng(seed).uniform(-4, -1, self.trials)
        ]


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder with a short name (Ray's sockets need that), gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="b-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def execute(
    words: list[Any],
    folder: Path,
    environment: dict[str, str] | None = None,
    longest_s: float = LONGEST_S,
    allowed: tuple[int, ...] = (0,),
) -> tuple[str, float, float]:
    """Run a Python module to its end, which must have one of the allowed exit codes.

    Returns what it printed, the Unix time of its start, and its seconds.
    """
    began, clock = time.time(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **QUIET, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=longest_s,
    )
    seconds = time.perf_counter() - clock
    if done.returncode not in allowed:
        raise RuntimeError(
            f"{' '.join(map(str, words[:3]))} ended with {done.returncode}:\n{done.stderr[-3000:]}"
        )
    return done.stdout, began, seconds


def peer(name: str, work: Work, seed: int, *words: object) -> Figures:
    """Run a peer on this work."""
    with scratch() as folder:
        rows = folder / "rows.npz"
        np.savez(rows, **split_rows(work, seed))
        given = [
            "--rows",
            rows,
            "--data-root",
            Path(work.data_root).absolute(),
            "--slots",
            work.slots,
            "--epochs",
            work.epochs,
            "--batch",
            work.batch,
        ]
        given += [
            "--train-limit",
            work.train,
            "--val-limit",
            work.val,
            "--seed",
            seed,
            "--out",
            folder / "out",
            "--lrs",
            *work.lrs(seed),
        ]
        printed, began, seconds = execute([f"tests.bench.peers.{name}", *given, *words], folder)
    figures: Figures = json.loads(printed.splitlines()[-1])
    figures["command_s"] = seconds
    figures["efficiency"] = figures["pure_s"] / (work.slots * figures["fit_s"])
    if figures["first_step_at"] is not None:
        figures["first_step_s"] = figures["first_step_at"] - began
    return figures


def split_rows(work: Work, seed: int) -> dict[str, np.ndarray]:
    """Return the numbers of the images that our search trains on and validates with.

    It is our own split, of numbers instead of images.
    """
    decoded = decode(DataConfig(name="mnist", root=work.data_root))
    numbers = Part(np.arange(len(decoded.train.targets)), decoded.train.targets)
    numbered = Decoded(decoded.classes, numbers, decoded.test)
    parts, _ = divide(
        Whole(numbered, None),
        DataConfig(name="mnist", train_limit=work.train, val_limit=work.val, split_seed=seed),
    )
    return {"train": parts.train.images, "val": parts.val.images}


def options(work: Work, seed: int, folder: Path) -> list[object]:
    """Return the options of our command.

    They make a grid over the learning rates, with no early stops, kept in this folder as
    `searches/s`.
    """
    (folder / "rates.py").write_text(
        SPACE.format(lrs=work.lrs(seed), epochs=work.epochs, batch=work.batch)
    )
    given: list[object] = [
        "--space",
        folder / "rates.py:space",
        "--data",
        "mnist",
        "--data-root",
        Path(work.data_root).absolute(),
        "--algorithm",
        "grid",
    ]
    given += [
        "--scheduler",
        "fifo",
        "--set",
        f"data.train_limit={work.train}",
        "--set",
        f"data.val_limit={work.val}",
        "--seed",
        seed,
    ]
    return [*given, "--name", "s", "--device", "cpu", "--concurrency", work.slots, "--json"]


def search(
    work: Work,
    seed: int,
    *words: object,
    environment: dict[str, str] | None = None,
    module: str = "search.run",
) -> Figures:
    """Run our command on this work.

    It is a grid over the learning rates, with no early stops, everything in a scratch folder,
    nothing decoded before.
    """
    with scratch() as folder:
        given = options(work, seed, folder)
        own = {"XDG_CACHE_HOME": str(folder / "cache")} | (environment or {})
        _, began, seconds = execute([module, *given, *words], folder, own)
        return {
            "command_s": seconds,
            **of_journal(folder / "searches" / "s" / "journal.jsonl", began, began + seconds),
        }


def of_journal(path: Path, began: float, ended: float) -> Figures:
    """Return what a search's journal tells of its speed.

    `began` and `ended` are the Unix times at which its process was started and was gone.

    `fit_s` goes from when Ray is up to the last trial's end; `span_s` begins with the first trial
    that runs. `before_s` and `after_s` are the rest of the command: imports, data and Ray's start,
    then the test, the pictures, MLflow's last lines and Ray's end; of the latter `test_s` goes to
    the test's end and `finished_s` to the journal's.
    """
    events = [json.loads(text) for text in path.read_text().splitlines()]
    at = {
        kind: [event["time_ms"] / 1000 for event in events if event["event"] == kind]
        for kind in ("started", "suggested", "running", "ended", "tested", "finished")
    }
    epochs = [event for event in events if event["event"] == "epoch"]
    pure = sum(event["metrics"]["time/epoch_s"] for event in epochs)
    slots, end = events[0]["slots"], at["ended"][-1]
    fit, span = end - at["started"][0], end - at["running"][0]
    return {
        "init_s": at["started"][0] - events[0]["began_ms"] / 1000,
        "fit_s": fit,
        "span_s": span,
        "before_s": at["started"][0] - began,
        "after_s": ended - end,
        "test_s": at["tested"][-1] - end if at["tested"] else None,
        "finished_s": at["finished"][-1] - end if at["finished"] else None,
        "pure_s": pure,
        "efficiency": pure / (slots * fit),
        "span_efficiency": pure / (slots * span),
        "trials": len(at["ended"]),
        "epochs": len(epochs),
        "trial_s": pure / len(at["ended"]),
        "best": max(event["metrics"]["val/accuracy"] for event in epochs),
        "first_step_s": min(
            event["time_ms"] / 1000 - event["metrics"]["time/epoch_s"] for event in epochs
        )
        - began,
    }


@contextmanager
def cluster(cpus: int) -> Iterator[tuple[str, dict[str, str]]]:
    """Start a Ray cluster of this machine alone, and end it afterwards.

    Gives its address, and the environment with which a process may connect.
    """
    port = free_port()
    own = {
        **ENVIRONMENT,
        **LOOPBACK,
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "PYTHONPATH": str(ROOT),
    }
    with scratch() as folder:
        words = [
            "start",
            "--head",
            "--block",
            "--node-ip-address",
            "127.0.0.1",
            "--port",
            port,
            "--num-cpus",
            cpus,
            "--temp-dir",
            folder / "r",
        ]
        words += [
            "--include-dashboard",
            "false",
            "--disable-usage-stats",
            "--min-worker-port",
            0,
            "--max-worker-port",
            0,
        ]
        words += [
            "--ray-client-server-port",
            free_port(),
            "--dashboard-agent-listen-port",
            free_port(),
        ]
        command = [Path(sys.executable).parent / "ray", *words]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                list(map(str, command)),
                env={**os.environ, **own},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_for(
                lambda: b"Ray runtime started" in (folder / "log").read_bytes(),
                what=f"a Ray cluster at port {port}",
            )
            yield f"127.0.0.1:{port}", own
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it has started."""
    with suppress(psutil.Error):
        whole = psutil.Process(process.pid)
        for child in [*whole.children(recursive=True), whole]:
            with suppress(psutil.Error):
                child.kill()
    process.wait()
