"""The bridge between a search and a training: what runs in the workers. The only module where Tune and Train meet.

A job is a plain dict: `trial`, `config` (a `TrialConfig` as a dict), `folder` for checkpoints, `attempt` (the how manieth) and `known`
(the last epoch that the journal has). A report crosses back as JSON, so that Tune neither flattens nor judges it.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import ray

from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset

if TYPE_CHECKING:
    from trainables.run import Report

Job = dict[str, Any]

STAY_S, LEFT_S, LOOK_S = 300, 3600, 5
"""How long a worker on a cluster waits for another search, and how long for its own, which may have been killed."""


def make_job(trial: str, config: TrialConfig, folder: Path, *, attempt: int, known: int) -> Job:
    """What a worker needs to know of a trial."""
    return {"trial": trial, "config": config.to_dict(), "folder": str(folder), "attempt": attempt, "known": known}


class TrialWorker:
    """Trains one trial after another in one process: torch is imported and the data mapped once, nothing else stays.

    It has the methods that Tune calls on a trainable of its class API. By inheritance it is none: to import Tune would cost each process a second.
    """

    def __init__(self, *, device: str, threads: int) -> None:
        import trainables.run
        from trainables.process import prepare

        prepare(threads)
        self._run, self._device = trainables.run, device
        self._dataset: Dataset | None = None
        self._job: Job = {}
        self._reports: Iterator[Report] | None = None
        self._broken = False
        self._search = ""
        self._used = time.monotonic()

    def open(self, dataset: Dataset) -> None:
        """Train on this, which lies in the memory that all processes of the node share."""
        self._dataset = dataset

    def reset(self, new_config: Job, storage: Any = None) -> bool:
        """Take the next trial."""
        self._job, self._reports = new_config, None
        return True

    def train(self) -> dict[str, Any]:
        """Go on to the trial's next report, usually an epoch on. What a trial raises ends the process with it: nothing of a broken trial reaches the next."""
        self._broken = True
        self._reports = self._reports or self._begin()
        report = next(self._reports)
        self._broken = False
        self._used = time.monotonic()
        return {"report": json.dumps(report.to_dict()), "done": False}

    def _begin(self) -> "Iterator[Report]":
        job, dataset = self._job, self._dataset
        if dataset is None:
            raise RuntimeError("a trial needs data")
        config, node = TrialConfig.from_dict(job["config"]), ray.get_runtime_context().get_node_id()
        return self._run.run_trial(config, dataset, Path(job["folder"]), device=self._device, attempt=job["attempt"], known=job["known"], node=node)

    def stop(self) -> None:
        """Forget the trial."""
        if self._broken:
            ray.actor.exit_actor()
        self._job, self._reports = {}, None

    def evaluate(self, job: Job, dataset: Dataset, epoch: int) -> dict[str, Any]:
        """Open the test part for one trial's checkpoint: `test` is the evaluation, or `damaged` says what is wrong with the checkpoint."""
        from trainables.checkpoint import CheckpointError
        from trainables.evaluate import evaluate

        if dataset.test is None:
            raise ValueError("the data set's test part is sealed")
        path = Path(job["folder"]) / f"epoch-{epoch:04d}"
        try:
            return {"test": evaluate(TrialConfig.from_dict(job["config"]), dataset, dataset.test, path, device=self._device)}
        except CheckpointError as error:
            return {"damaged": str(error)}

    def get_current_ip_pid(self) -> tuple[str, int]:
        """Where this is."""
        return ray.util.get_node_ip_address(), os.getpid()

    def get_auto_filled_metrics(self, debug_metrics_only: bool = True) -> dict[str, Any]:
        """What Tune knows of a trial that has not reported yet."""
        return {"done": False}

    def claim(self, search: str) -> bool:
        """Work for this search, if for no other."""
        self._used = time.monotonic()
        self._search = self._search or search
        if not hasattr(self, "_guard"):
            self._guard = Thread(target=self._leave_when_unused, daemon=True)
            self._guard.start()
        return self._search == search

    def release(self, search: str = "") -> None:
        """Work for that search no more (for none, if none is named)."""
        if search in ("", self._search):
            self._search, self._dataset, self._job, self._reports = "", None, {}, None
            self._used = time.monotonic()

    def _leave_when_unused(self) -> None:
        """End this process when nobody has wanted it for long: it outlives the search that started it, and who should end it may have been killed."""
        while time.monotonic() - self._used < (LEFT_S if self._search else STAY_S):
            time.sleep(LOOK_S)
        os._exit(0)


class Gate:
    """An actor that holds a trial's workers after each report until the search has decided whether the trial goes on.

    Workers that are told to stop return, and Ray Train winds down by itself. To kill the trial instead would leave its placement group to
    a cleaner of Ray's that does not find it when two clusters share a machine.
    """

    def __init__(self) -> None:
        self._decided: dict[int, bool] = {}
        self._news = asyncio.Condition()

    async def decide(self, number: int, go_on: bool) -> None:
        """Let the workers pass that have given the report of this number, to go on or to stop."""
        async with self._news:
            self._decided[number] = go_on
            self._news.notify_all()

    async def passed(self, number: int) -> bool:
        """Return, once it is decided, whether workers go on after this report."""
        async with self._news:
            await self._news.wait_for(lambda: number in self._decided)
            return self._decided[number]


def gate_name(job: Job) -> str:
    """A trial's gate is found under its folder, which no other trial has, and the attempt."""
    return f"gate {job['attempt']} {job['folder']}"


def train_on_workers(config: Job, *, dataset: Dataset, device: str, demand: dict[str, float]) -> None:
    """Train one trial data-parallel with Ray Train; each report of its first worker reaches Tune."""
    from ray.train import ScalingConfig
    from ray.tune.integration.ray_train import TuneReportCallback

    from trainables.trainer import build_trainer

    each = {"CPU": demand["cpus"]} | ({"GPU": demand["gpus"]} if device == "cuda" else {})
    scaling = ScalingConfig(num_workers=int(demand["workers"]), use_gpu=device == "cuda", resources_per_worker=each)
    trial = TrialConfig.from_dict(config["config"])
    gate = ray.remote(Gate).options(name=gate_name(config), num_cpus=0).remote()
    threads = max(1, int(demand["cpus"]))
    trainer = build_trainer(
        trial,
        ray.put(dataset),
        Path(config["folder"]),
        scaling=scaling,
        gate=gate,
        attempt=config["attempt"],
        known=config["known"],
        threads=threads,
        callbacks=[TuneReportCallback()],
    )
    trainer.fit()
