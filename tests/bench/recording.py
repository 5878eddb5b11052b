"""The rows on what MLflow costs.

They log 20 epochs of three metrics a trial, against a real server on this machine.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path

from search.journal.events import Epoch
from search.journal.journal import Event
from search.tracking.client import ENVIRONMENT
from search.tracking.runs import Runs
from search.tracking.tracker import EVERY_S
from tests.bench.commands import Work, scratch, search
from tests.bench.searches import PLAYED
from tests.bench.table import Figures, Row, Side
from tests.faults.harness import Search, Server

METRICS = ("val/loss", "val/accuracy", "time/epoch_s")
EPOCHS = 20


@contextmanager
def server() -> Iterator[tuple[Server, Path]]:
    """Start a real server, with a scratch folder."""
    with scratch() as folder:
        started = Server(folder, folder / "server.db").start()
        try:
            yield started, folder
        finally:
            started.kill()


def one_by_one(trials: int) -> Figures:
    """Return the cost of a trial that logs each metric by a call of its own and waits for it."""
    os.environ.update(ENVIRONMENT)
    from mlflow import MlflowClient

    with server() as (running, _):
        client = MlflowClient(tracking_uri=running.uri)
        experiment = client.create_experiment("peer")
        clock, cpu = time.perf_counter(), time.thread_time()
        for number in range(trials):
            run = client.create_run(experiment, run_name=f"trial {number}").info.run_id
            client.log_param(run, "optimizer.lr", 0.001)
            for epoch in range(1, EPOCHS + 1):
                for name in METRICS:
                    client.log_metric(run, name, 0.5, step=epoch)
            client.set_terminated(run)
        return {
            "trial_s": (time.perf_counter() - clock) / trials,
            "cpu_s": (time.thread_time() - cpu) / trials,
        }


@dataclass(frozen=True)
class Projection:
    """The journal of a search whose training sleeps, brought to MLflow as the search does.

    What that costs is measured.
    """

    trials: int

    @cached_property
    def events(self) -> list[Event]:
        """The events of a search of two trials at once, two seconds each."""
        with scratch() as folder:
            (folder / "played.py").write_text(PLAYED % EPOCHS)
            run = Search(folder, "played")
            run.plan(played={"epoch_s": 0.1})
            try:
                run.run(
                    "--space",
                    folder / "played.py",
                    "--algorithm",
                    "random",
                    "--scheduler",
                    "fifo",
                    "--trials",
                    self.trials,
                    "--concurrency",
                    2,
                )
                done = run.finish(timeout=600)
                assert done.code == 0, done.err
                return [
                    three_metrics(Event.from_line(text))
                    for text in run.journal.read_text().splitlines()
                ]
            finally:
                run.end()

    def measure(self, seed: int) -> Figures:
        """Return the seconds a trial of the thread that writes to MLflow.

        The training waits for none of them.
        """
        events = [
            event
            for event in self.events
            if event.kind in ("started", "suggested", "running", "epoch", "ended")
        ]
        with server() as (running, folder):
            runs = Runs(running.uri, folder)
            runs.project(events[:1])
            clock, cpu = time.perf_counter(), time.thread_time()
            for _, batch in groupby(
                events[1:], lambda event: event.time_ms // round(1000 * EVERY_S)
            ):
                runs.project(list(batch))
            return {
                "trial_s": (time.perf_counter() - clock) / self.trials,
                "cpu_s": (time.thread_time() - cpu) / self.trials,
                "waits_s": 0.0,
            }


def three_metrics(event: Event) -> Event:
    """Return an epoch with as many metrics as the other side logs."""
    if not isinstance(event.data, Epoch):
        return event
    return replace(
        event,
        data=replace(event.data, metrics={name: event.data.metrics[name] for name in METRICS}),
    )


def share(work: Work, seed: int) -> Figures:
    """Return the share of a real search's wall time that MLflow's thread computes.

    In percent, of the thread that writes to MLflow; the import of MLflow apart.
    """
    with server() as (running, folder):
        told = folder / "tracker.json"
        own = {"BENCH_TRACKER": str(told), "MLFLOW_TRACKING_URI": running.uri}
        figures = search(work, seed, environment=own, module="tests.bench.tracked_run")
        cost = json.loads(told.read_text())
    writes = cost["thread_s"] - cost["import_s"]
    return {
        **figures,
        **cost,
        "share": 100 * writes / figures["command_s"],
        "import_share": 100 * cost["import_s"] / figures["command_s"],
    }


def rows(data_root: str, quick: bool) -> list[Row]:
    """Return the rows P12 and following."""
    trials = 3 if quick else 10
    work = Work(data_root=data_root, **({"trials": 4, "epochs": 1, "train": 1000} if quick else {}))
    theirs, ours = (
        Side("MLflow, a call a metric", lambda seed: one_by_one(trials)),
        Side("MLflow, our projection", Projection(trials).measure),
    )
    what = f"MLflow server, seconds a trial ({EPOCHS} epochs x {len(METRICS)} metrics)"
    real = Side("ours, MLflow's thread", lambda seed: share(work, seed))
    return [
        Row(
            name="P12",
            what=(
                f"{what}: a call a metric, which training waits for, against our thread, "
                "which it does not"
            ),
            theirs=theirs,
            ours=ours,
            figure="trial_s",
        ),
        Row(name="P12b", what=f"{what}: CPU alone", theirs=theirs, ours=ours, figure="cpu_s"),
        Row(
            name="P12c",
            what=(
                f"the thread's CPU in a search of {work.trials} MNIST trials, share of its "
                "wall time"
            ),
            ours=real,
            figure="share",
            unit="%",
        ),
        Row(
            name="P12d",
            what="the same: the import of MLflow, once",
            ours=real,
            figure="import_share",
            unit="%",
        ),
    ]
