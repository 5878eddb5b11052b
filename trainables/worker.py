"""The function that each Ray Train worker runs: `run_trial`, as one of several processes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
import ray.train.torch

from trainables.config import TrialConfig
from trainables.messages import Report, encode_reports

if TYPE_CHECKING:
    from trainables.training.world import Distributed


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """The resources of one of the workers of a team."""

    threads: int = 1
    gpus: float = 0
    """The number of GPUs that the worker uses; a fraction also limits its memory on the GPU."""
    download: bool = False
    """True if missing pretrained weights may be downloaded."""


def train_loop(setting: dict[str, Any]) -> None:
    """Train one trial after another in this worker, until the team has no more.

    The first worker sends each report, as JSON, to the team. Ray Train polls for reports, and does
    not reply to them. Therefore each worker asks the team after each report whether to continue: a
    trial that should stop trains no further epoch, and no trial waits for the next poll.

    Args:
        setting: `dataset` (a reference to a sealed `Dataset`), `setup` (a `WorkerSetup`), and
            `team`, an actor. Its `next_job(number)` waits for the trial after so many trials, and
            returns its `config` (a `TrialConfig` as a dict), `folder` and `request` (a
            `TrialRequest`), or None if there are no more. Its `report(number, reports)` receives
            the reports, numbered from 1 over all trials; its `passed(number)` waits for the
            decision whether to continue after that report, and returns it. Its `end_job()` learns
            that a trial has no further report.
    """
    from trainables.training.process import prepare
    from trainables.training.world import Distributed

    setup, team = setting["setup"], setting["team"]
    prepare(setup.threads, setup.gpus)
    dataset, device = ray.get(setting["dataset"]), str(ray.train.torch.get_device())
    world = Distributed(device)
    jobs = reports = 0
    while (job := ray.get(team.next_job.remote(jobs))) is not None:
        jobs += 1
        for report in _reports(job, dataset, setup, world):
            reports += 1
            if world.rank == 0:
                ray.get(team.report.remote(reports, encode_reports([report])))
            if report.outcome is None and not ray.get(team.passed.remote(reports)):
                break
        if world.rank == 0:
            ray.get(team.end_job.remote())


def _reports(
    job: dict[str, Any], dataset: Any, setup: WorkerSetup, world: "Distributed"
) -> Iterator[Report]:
    """Train a trial in this worker, and yield its reports."""
    from trainables.checkpoints.remote import folder_here, forget
    from trainables.trial import run_trial

    config, request = TrialConfig.from_dict(job["config"]), job["request"]
    if setup.download and config.model.pretrained:
        from trainables.models.weights import fetch

        fetch(config.model)
    node = ray.get_runtime_context().get_node_id()
    folder = folder_here(job["folder"], request.mirror, request.attempt, world.rank)
    try:
        yield from run_trial(
            config, dataset, folder, request, device=world.device, world=world, node=node
        )
    finally:
        forget(job["folder"], request.mirror, request.attempt, world.rank)
