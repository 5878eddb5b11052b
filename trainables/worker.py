"""What each Ray Train worker runs: the same trial as everywhere, in a process group with its fellows."""

import json
from pathlib import Path
from typing import Any

import ray
import ray.train.torch

from trainables.config import TrialConfig


def train_loop(job: dict[str, Any]) -> None:
    """Train one config in this worker and hand each report, as JSON, to Ray Train.

    Ray Train takes reports without an answer. So that a trial that is to be stopped trains no further epoch, each worker waits after a
    report until `gate` lets it pass.

    Args:
        job: `config` (a `TrialConfig` as a dict), `dataset` (a reference to a sealed `Dataset`), `folder`, `threads`, and `gate`,
            an actor whose `passed(epoch)` returns, when that is decided, whether there is to be a next epoch.
    """
    from trainables.run import run_trial
    from trainables.threads import limit_threads
    from trainables.world import Distributed

    limit_threads(job["threads"])
    config, dataset = TrialConfig.from_dict(job["config"]), ray.get(job["dataset"])
    for report in run_trial(config, dataset, Path(job["folder"]), device=str(ray.train.torch.get_device()), world=Distributed()):
        ray.train.report({"report": json.dumps(report.to_dict())})
        if report.outcome is None and not ray.get(job["gate"].passed.remote(report.epoch)):
            return
