"""A trial on several workers at once, through Ray Train, held by a gate between its epochs."""

import asyncio
import os
import tempfile
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import ray

from search.execution.job import JOB, Handed, Job
from search.execution.worker import TuneResult
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

LOOK_S = 0.1
"""Seconds between two checks by Ray Train whether the workers have ended. With its default of two
seconds the end of each trial would wait that long.
"""


class Gate:
    """An actor between a trial's workers and the search.

    It passes on what the first worker reports, and holds all workers after each report until the
    search has decided whether the trial goes on.

    Workers that are told to stop return, and Ray Train winds down by itself. To kill the trial
    instead would leave its placement group to a cleaner of Ray's that does not find it when two
    clusters share a machine. Ray's own way to pass on reports (`TuneReportCallback`) waits for ever
    if training ends before its last report has been fetched: the thread that should fetch it is
    then blocked on putting it into a queue that only this same thread empties.
    """

    def __init__(self) -> None:
        self._reports: deque[TuneResult] = deque()
        self._decided: dict[int, bool] = {}
        self._closed = False
        self._news = asyncio.Condition()

    async def report(self, number: int, reports: str) -> None:
        """Pass on the report of this number."""
        async with self._news:
            self._reports.append({"reports": reports, "number": number})
            self._news.notify_all()

    async def next_report(self) -> TuneResult | None:
        """Return the next report once there is one, or None after the last.

        None means that the workers have ended and every report has been fetched.
        """
        async with self._news:
            await self._news.wait_for(lambda: self._reports or self._closed)
            return self._reports.popleft() if self._reports else None

    async def close(self) -> None:
        """Note that there will be no further report."""
        async with self._news:
            self._closed = True
            self._news.notify_all()

    async def decide(self, number: int, go_on: bool) -> None:
        """Release the workers that wait after the report of this number, to go on or to stop."""
        async with self._news:
            self._decided[number] = go_on
            self._news.notify_all()

    async def passed(self, number: int) -> bool:
        """Wait for the decision after this report, and return whether the workers go on."""
        async with self._news:
            await self._news.wait_for(lambda: number in self._decided)
            return self._decided[number]


def gate_name(job: Job) -> str:
    """Return the name of a trial's gate: its folder, which no other trial has, and the attempt."""
    return f"gate {job.request.attempt} {job.folder}"


def train_on_workers(
    config: Handed,
    *,
    dataset: "list[ray.ObjectRef[Dataset]]",
    device: str,
    demand: dict[str, float],
) -> None:
    """Train one trial data-parallel with Ray Train, and tell Tune what its first worker reports.

    `dataset` is a list of one reference: Tune hands over what a list holds as it is, and the data
    stay where they are for all trials.
    """
    from ray import tune
    from ray.train import ScalingConfig

    from trainables.trainer import build_trainer
    from trainables.worker import WorkerSetup

    each = {"CPU": demand["cpus"]} | ({"GPU": demand["gpus"]} if device == "cuda" else {})
    scaling = ScalingConfig(
        num_workers=int(demand["workers"]), use_gpu=device == "cuda", resources_per_worker=each
    )
    job: Job = config[JOB]
    trial = TrialConfig.from_dict(job.config)
    # Ray Train reads this in this process, and hands it on.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(LOOK_S))
    gate: Any = ray.remote(Gate).options(name=gate_name(job), num_cpus=0).remote()
    with tempfile.TemporaryDirectory(prefix="train-") as own:
        trainer = build_trainer(
            trial,
            dataset[0],
            Path(job.folder),
            job.request,
            scaling=scaling,
            gate=gate,
            setup=WorkerSetup(
                threads=max(1, int(demand["cpus"])),
                gpus=demand["gpus"] if device == "cuda" else 0,
                download=job.download,
            ),
            own=own if job.request.mirror is not None else "",
        )
        fitted = Future[None]()
        Thread(target=_fit, args=(trainer, gate, fitted), daemon=True).start()
        # If the gate died, the workers end at their next report, and that is what is raised.
        with suppress(ray.exceptions.RayActorError):
            while (report := ray.get(gate.next_report.remote())) is not None:
                tune.report(report)
        fitted.result()


def _fit(trainer: "TorchTrainer", gate: Any, fitted: "Future[None]") -> None:
    """Train, record how that ended, and close the gate."""
    try:
        trainer.fit()
    except BaseException as error:  # noqa: BLE001 - it is raised where the trial waits
        fitted.set_exception(error)
    else:
        fitted.set_result(None)
    with suppress(ray.exceptions.RayActorError):
        ray.get(gate.close.remote())
