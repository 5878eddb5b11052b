"""The function that each Ray Train worker runs: an ordinary trial in a group of processes."""

from dataclasses import dataclass
from typing import Any

import ray
import ray.train.torch

from trainables.config import TrialConfig
from trainables.messages import told


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """The means of one worker of several that train a trial."""

    threads: int = 1
    gpus: float = 0
    """Of a part of a GPU it takes no more memory than that part."""
    download: bool = False
    """True if weights to begin with may be fetched where they are missing."""


def train_loop(job: dict[str, Any]) -> None:
    """Train one config in this worker; the first worker gives each report, as JSON, to the gate.

    Ray Train answers no reports, and takes them only when it looks for them. So each worker asks
    `gate` after a report whether to go on: then a trial that is to be stopped trains no further
    epoch, and no trial waits for Ray Train to look.

    Args:
        job: `config` (a `TrialConfig` as a dict), `dataset` (a reference to a sealed `Dataset`),
            `folder`, `request` (a `TrialRequest`), `setup` (a `WorkerSetup`), and `gate`, an actor
            that takes `report(number, reports)`, counted from 1, and whose `passed(number)`
            returns, when that is decided, whether to go on after it.
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
                ray.get(job["gate"].report.remote(number, told([report])))
            if report.outcome is None and not ray.get(job["gate"].passed.remote(number)):
                return
    finally:
        forget(job["folder"], request.mirror, request.attempt, world.rank)
