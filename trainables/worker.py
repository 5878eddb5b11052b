"""The function that each Ray Train worker runs: an ordinary trial in a group of processes."""

from dataclasses import dataclass
from typing import Any

import ray
import ray.train.torch

from trainables.config import TrialConfig
from trainables.messages import encode_reports


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """The resources of a worker that trains a trial together with others."""

    threads: int = 1
    gpus: float = 0
    """The GPUs, or the share of one, that it uses; a share limits its memory on that GPU too."""
    download: bool = False
    """True if missing pretrained weights may be downloaded."""


def train_loop(job: dict[str, Any]) -> None:
    """Train one config in this worker; the first worker sends each report, as JSON, to the gate.

    Ray Train does not answer reports, and polls for them. Therefore each worker asks `gate` after a
    report whether to continue: a trial that is to be stopped trains no further epoch, and no trial
    waits for the next poll.

    Args:
        job: `config` (a `TrialConfig` as a dict), `dataset` (a reference to a sealed `Dataset`),
            `folder`, `request` (a `TrialRequest`), `setup` (a `WorkerSetup`), and `gate`, an actor
            that takes `report(number, reports)`, counted from 1, and whose `passed(number)`
            returns, once that is decided, whether to continue after it.
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
