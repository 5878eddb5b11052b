"""Data-parallel training of a trial with Ray Train.

After each epoch, the workers of the trial wait at a gate, until the search has decided whether the
trial continues.
"""

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
"""Seconds between two checks by Ray Train whether the workers have finished. With its default of 2
seconds, each trial would finish up to 2 seconds later.
"""


class Gate:
    """An actor between the workers of a trial and the search.

    It forwards the reports of the first worker to the search. After each report, all workers wait
    until the search has decided whether the trial continues.

    If the decision is to stop, each worker returns from its training function, and Ray Train shuts
    down by itself. If the trial were killed instead, a cleanup process of Ray would have to remove
    the trial's placement group. Ray's process cannot find the group if two clusters share a
    machine.

    Ray's own way to forward reports (`TuneReportCallback`) deadlocks if training ends before its
    last report has been fetched: one thread then waits for space in a queue that only the same
    thread empties.
    """

    def __init__(self) -> None:
        self._reports: deque[TuneResult] = deque()
        self._decided: dict[int, bool] = {}
        self._closed = False
        self._news = asyncio.Condition()

    async def report(self, number: int, reports: str) -> None:
        """Queue a report for the search.

        Args:
            number: the number of the report, from 1.
            reports: a list with the report, encoded by `encode_reports`.
        """
        async with self._news:
            self._reports.append({"reports": reports, "number": number})
            self._news.notify_all()

    async def next_report(self) -> TuneResult | None:
        """Wait for the next report and return it; None after the last one."""
        async with self._news:
            await self._news.wait_for(lambda: self._reports or self._closed)
            return self._reports.popleft() if self._reports else None

    async def close(self) -> None:
        """Declare that no further report follows, so that `next_report` no longer waits."""
        async with self._news:
            self._closed = True
            self._news.notify_all()

    async def decide(self, number: int, go_on: bool) -> None:
        """Release the workers that wait after a report.

        Args:
            number: the number of the report, from 1.
            go_on: True if they should continue, False if they should stop.
        """
        async with self._news:
            self._decided[number] = go_on
            self._news.notify_all()

    async def passed(self, number: int) -> bool:
        """Wait for the decision after a report; return True if the workers should continue."""
        async with self._news:
            await self._news.wait_for(lambda: number in self._decided)
            return self._decided[number]


def gate_name(job: Job) -> str:
    """Return the name of a trial's gate, unique in the cluster for each trial and attempt."""
    return f"gate {job.request.attempt} {job.folder}"


def train_on_workers(
    config: Handed,
    *,
    dataset: "list[ray.ObjectRef[Dataset]]",
    device: str,
    demand: dict[str, float],
) -> None:
    """Train one trial on several workers with Ray Train, and forward its reports to Tune.

    Args:
        config: the trial's config in Tune, with its job.
        dataset: a list with one reference to the data. Within a list, Tune leaves the reference as
            it is, so that all trials share one copy of the data.
        device: `cpu` or `cuda`.
        demand: the number of `workers`, and the number of `cpus` and `gpus` of each worker.
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
    # Ray Train reads this variable in this process.
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
        # If the gate has died, the workers fail at their next report; `fitted` raises that error.
        with suppress(ray.exceptions.RayActorError):
            while (report := ray.get(gate.next_report.remote())) is not None:
                tune.report(report)
        fitted.result()


def _fit(trainer: "TorchTrainer", gate: Any, fitted: "Future[None]") -> None:
    """Train, set the result or the error of `fitted`, and close the gate."""
    try:
        trainer.fit()
    except BaseException as error:  # noqa: BLE001 - `train_on_workers` raises it
        fitted.set_exception(error)
    else:
        fitted.set_result(None)
    with suppress(ray.exceptions.RayActorError):
        ray.get(gate.close.remote())
