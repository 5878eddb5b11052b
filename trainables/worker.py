"""The function that each Ray Train worker runs: an ordinary trial in a group of processes."""

import json
from typing import Any

import ray
import ray.train.torch

from trainables.config import TrialConfig


def train_loop(job: dict[str, Any]) -> None:
    """Train one config in this worker; the first worker gives each report, as JSON, to the gate.

    Ray Train answers no reports, and takes them only when it looks for them. So each worker asks
    `gate` after a report whether to go on: then a trial that is to be stopped trains no further
    epoch, and no trial waits for Ray Train to look.

    Args:
        job: `config` (a `TrialConfig` as a dict), `dataset` (a reference to a sealed `Dataset`),
            `folder`, `attempt`, `known`, `beginnings`, `milestones` and `with_cost` as `run_trial`
            takes them, `threads` and `gpus` as `prepare` does, `mirror`, `download` (whether
            weights to begin with may be fetched), and `gate`, an actor that takes `report(number,
            reports)`, counted from 1, and whose `passed(number)` returns, when that is decided,
            whether to go on after it.
    """
    from trainables.checkpoints.remote import folder_here, forget
    from trainables.training.process import prepare
    from trainables.training.world import Distributed
    from trainables.trial import run_trial

    prepare(job["threads"], job["gpus"])
    config, dataset = TrialConfig.from_dict(job["config"]), ray.get(job["dataset"])
    if job["download"] and config.model.pretrained:
        from trainables.models.weights import fetch

        fetch(config.model)
    device, node = str(ray.train.torch.get_device()), ray.get_runtime_context().get_node_id()
    world, about = (
        Distributed(device),
        {
            name: job[name]
            for name in ("attempt", "known", "mirror", "beginnings", "milestones", "with_cost")
        },
    )
    reports = run_trial(
        config,
        dataset,
        folder_here(job["folder"], job["mirror"], job["attempt"], world.rank),
        device=device,
        world=world,
        node=node,
        **about,
    )
    try:
        for number, report in enumerate(reports, 1):
            if world.rank == 0:
                ray.get(job["gate"].report.remote(number, json.dumps([report.to_dict()])))
            if report.outcome is None and not ray.get(job["gate"].passed.remote(number)):
                return
    finally:
        forget(job["folder"], job["mirror"], job["attempt"], world.rank)
