"""A trial on several workers at once, through Ray Train, held by a gate between its epochs."""

import asyncio
import os
import tempfile
from pathlib import Path

import ray

from search.job import Job, beginnings_of, mirror_of
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset

LOOK_S = 0.1
"""How often Ray Train asks the workers for what they report: its own two seconds would be waited for
at the gate after each epoch."""


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


def train_on_workers(config: Job, *, dataset: "list[ray.ObjectRef[Dataset]]", device: str, demand: dict[str, float]) -> None:
    """Train one trial data-parallel with Ray Train; each report of its first worker reaches Tune.

    `dataset` is a list of one reference: Tune hands over what a list holds as it is, and the data stay where they are for all trials.
    """
    from ray.train import ScalingConfig
    from ray.tune.integration.ray_train import TuneReportCallback

    from trainables.trainer import build_trainer

    each = {"CPU": demand["cpus"]} | ({"GPU": demand["gpus"]} if device == "cuda" else {})
    scaling = ScalingConfig(num_workers=int(demand["workers"]), use_gpu=device == "cuda", resources_per_worker=each)
    trial = TrialConfig.from_dict(config["config"])
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(LOOK_S))  # read here and handed on
    gate = ray.remote(Gate).options(name=gate_name(config), num_cpus=0).remote()
    with tempfile.TemporaryDirectory(prefix="train-") as own:
        trainer = build_trainer(
            trial,
            dataset[0],
            Path(config["folder"]),
            scaling=scaling,
            gate=gate,
            attempt=config["attempt"],
            known=config["known"],
            beginnings=beginnings_of(config),
            milestones=config["milestones"],
            with_cost=config["with_cost"],
            download=config["download"],
            threads=max(1, int(demand["cpus"])),
            gpus=demand["gpus"] if device == "cuda" else 0,
            mirror=mirror_of(config),
            own=own if config["bucket"] else "",
            callbacks=[TuneReportCallback()],
        )
        trainer.fit()
