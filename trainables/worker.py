"""What each Ray Train worker runs: the same trial as everywhere, in a process group with its fellows."""

from pathlib import Path
from typing import Any

import ray
import ray.train

from trainables.config import TrialConfig


def train_loop(job: dict[str, Any]) -> None:
    """Train one config in this worker and hand each report to Ray Train.

    Args:
        job: `config` (a `TrialConfig` as a dict), `dataset` (a reference to a sealed `Dataset`), `folder`, `device`.
    """
    from trainables.run import run_trial
    from trainables.threads import limit_threads
    from trainables.world import Distributed

    limit_threads(job["threads"])
    dataset = ray.get(job["dataset"])
    for report in run_trial(TrialConfig.from_dict(job["config"]), dataset, Path(job["folder"]), device=job["device"], world=Distributed()):
        ray.train.report({"report": report.to_dict()})
