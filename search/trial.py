"""The bridge between a search and a training: what runs in Tune's workers. The only module where Tune and Train meet.

A job is a plain dict: `trial`, `config` (a `TrialConfig` as a dict), `folder` for checkpoints, `attempt` (the how manieth) and `known`
(the last epoch that the journal has). A report crosses back as JSON, so that Tune neither flattens nor judges it.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset

if TYPE_CHECKING:
    from trainables.run import Report

Job = dict[str, Any]


def make_job(trial: str, config: TrialConfig, folder: Path, *, attempt: int, known: int) -> Job:
    """What a worker needs to know of a trial."""
    return {"trial": trial, "config": config.to_dict(), "folder": str(folder), "attempt": attempt, "known": known}


class TrialWorker(tune.Trainable):
    """Trains one trial after another in one process: torch is imported and the data mapped once, nothing else stays."""

    def setup(self, config: Job, *, dataset: Dataset, device: str, threads: int) -> None:  # type: ignore[override]
        """Prepare the process, then the first trial."""
        from trainables.process import prepare

        prepare(threads)
        self._dataset, self._device = dataset, device
        self.reset_config(config)

    def reset_config(self, new_config: Job) -> bool:
        """Prepare the next trial."""
        from trainables.run import run_trial

        config, node = TrialConfig.from_dict(new_config["config"]), ray.get_runtime_context().get_node_id()
        self._reports: Iterator[Report] = run_trial(
            config,
            self._dataset,
            Path(new_config["folder"]),
            device=self._device,
            attempt=new_config["attempt"],
            known=new_config["known"],
            node=node,
        )
        return True

    def step(self) -> dict[str, Any]:
        """Go on to the trial's next report, usually an epoch on. What a trial raises ends the process with it: nothing of a broken trial reaches the next."""
        return {"report": json.dumps(next(self._reports).to_dict())}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: trials save their own."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: trials load their own."""


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


def evaluate_on_test(job: Job, dataset: Dataset, epoch: int, device: str) -> dict[str, Any]:
    """Open the test part for one trial's checkpoint: `test` is the evaluation, or `damaged` says what is wrong with the checkpoint. Runs as
    a Ray task.
    """
    from trainables.checkpoint import CheckpointError
    from trainables.evaluate import evaluate

    if dataset.test is None:
        raise ValueError("the data set's test part is sealed")
    path = Path(job["folder"]) / f"epoch-{epoch:04d}"
    try:
        return {"test": evaluate(TrialConfig.from_dict(job["config"]), dataset, dataset.test, path, device=device)}
    except CheckpointError as error:
        return {"damaged": str(error)}
