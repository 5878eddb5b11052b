"""The function that each Ray Train worker runs: `run_trial`, as one of several processes."""

from dataclasses import dataclass
from typing import Any

import ray
import ray.train.torch

from trainables.config import TrialConfig
from trainables.messages import encode_reports


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """The resources of one of the workers that train a trial together."""

    threads: int = 1
    gpus: float = 0
    """The number of GPUs that the worker uses; a fraction also limits its memory on the GPU."""
    download: bool = False
    """True if missing pretrained weights may be downloaded."""


def train_loop(job: dict[str, Any]) -> None:
    """Train one config in this worker; the first worker sends each report, as JSON, to the gate.

    Ray Train polls for reports, and does not reply to them. Therefore each worker asks `gate` after
    each report whether to continue: a trial that should stop trains no further epoch, and no trial
    waits for the next poll.

    Args:
        job: `config` (a `TrialConfig` as a dict), `dataset` (a reference to a sealed `Dataset`),
            `folder`, `request` (a `TrialRequest`), `setup` (a `WorkerSetup`), and `gate`, an actor.
            Its `report(number, reports)` receives the reports, numbered from 1; its
            `passed(number)` waits for the decision whether to continue after that report, and
            returns it.
    """
    from trainables.checkpoints.remote import folder_here, forget
    from trainables.training.process import prepare
    from trainables.training.world import Distributed
    from trainables.trial import run_trial

    request, setup = job["request"], job["setup"]
    prepare(setup.threads, setup.gpus)
    config, dataset = TrialConfig.from_dict(job["config"]), ray.get(job["dataset"])
    if setup.download and config.model.pretrained:
        from trainables.models.weights import fetch

        fetch(config.model)
    device, node = str(ray.train.torch.get_device()), ray.get_runtime_context().get_node_id()
    world = Distributed(device)
    folder = folder_here(job["folder"], request.mirror, request.attempt, world.rank)
    reports = run_trial(config, dataset, folder, request, device=device, world=world, node=node)
    try:
        for number, report in enumerate(reports, 1):
            if world.rank == 0:
                ray.get(job["gate"].report.remote(number, encode_reports([report])))
            if report.outcome is None and not ray.get(job["gate"].passed.remote(number)):
                return
    finally:
        forget(job["folder"], request.mirror, request.attempt, world.rank)
