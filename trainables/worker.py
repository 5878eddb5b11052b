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
        job: `config` (a `TrialConfig` as a dict), `dataset` (a reference to a sealed `Dataset`), `folder`, `attempt` and `known` as
            `run_trial` takes them, `threads` and `gpus` as `prepare` does, and `gate`, an actor whose `passed(number)` returns, when that is
            decided, whether to go on after this report (counted from 1).
    """
    from trainables.process import prepare
    from trainables.run import run_trial
    from trainables.world import Distributed

    prepare(job["threads"], job["gpus"])
    config, dataset = TrialConfig.from_dict(job["config"]), ray.get(job["dataset"])
    device, node = str(ray.train.torch.get_device()), ray.get_runtime_context().get_node_id()
    reports = run_trial(config, dataset, Path(job["folder"]), device=device, world=Distributed(device), attempt=job["attempt"], known=job["known"], node=node)
    for number, report in enumerate(reports, 1):
        ray.train.report({"report": json.dumps(report.to_dict()), "number": number})
        if report.outcome is None and not ray.get(job["gate"].passed.remote(number)):
            return
