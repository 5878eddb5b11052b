"""How many trials share a worker, and how many workers a GPU: asked for, or measured before the search begins."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import ray

from search.experiment import Experiment
from search.workers import Workers
from trainables.config import TrialConfig
from trainables.errors import ConfigError

SAMPLES = 64
SHARES = (2, 4, 8)
"""Numbers of processes that are tried on one GPU."""
ROUNDS = {"bayes": 4}
"""How many rounds of trials at once a search should have at least: one that learns from trials must see some end."""
PATIENCE_S = 120.0
"""Measuring that takes longer is given up."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """`members` trials train as one network in a worker; `per_gpu` workers share a GPU."""

    members: int = 1
    per_gpu: int = 1
    reason: str = ""
    measured: dict[str, float] = field(default_factory=dict)
    """Images a second by kind: `plain`, `fused x8`, `processes x2`."""

    def describe(self) -> dict[str, Any]:
        """Plain values, for the journal."""
        return asdict(self)


def pack(experiment: Experiment, workers: Workers, slots: int) -> Packing:
    """Decide for a search with so many workers."""
    wanted = experiment.fuse
    if wanted.isdigit():
        return Packing(members=min(int(wanted), most_members(experiment, slots)), reason="as asked for")
    is_gpu = experiment.device != "cpu"
    if wanted == "off" or (wanted == "auto" and not (is_gpu and experiment.demand.gpus == 1)) or experiment.demand.workers > 1:
        return Packing()
    configs = sample(experiment)
    most = most_members(experiment, slots)
    if not configs or most < 2:
        return Packing(reason="too few trials for more than one a worker")
    try:
        return measured(configs, workers, most, is_gpu)
    except (ray.exceptions.RayError, TimeoutError) as error:
        return Packing(reason=f"could not be measured ({(str(error).splitlines() or [''])[0][:200]})")


def measured(configs: list[TrialConfig], workers: Workers, most: int, is_gpu: bool) -> Packing:
    """What workers say when they try."""
    rates = {count: workers.rates(configs[0], count, PATIENCE_S) for count in (1, *SHARES) if count <= most} if is_gpu else {}
    plan = workers.plan(configs, most, rates, PATIENCE_S)
    members = plan["members"] if plan["kind"] == "fused" else 1
    per_gpu = plan["members"] if plan["kind"] == "processes" else 1
    return Packing(members=members, per_gpu=per_gpu, reason=plan["reason"], measured=dict(plan["measured"]))


def most_members(experiment: Experiment, slots: int) -> int:
    """How many trials may share a worker: all workers are to be busy for some rounds, and no more trials run at once than the user wants."""
    rounds = ROUNDS.get(experiment.algorithm, 1)
    at_once = min(experiment.planned_trials // rounds, experiment.concurrency or 10**6)
    return max(1, at_once // slots)


def sample(experiment: Experiment) -> list[TrialConfig]:
    """Some of the trials that the search may start."""
    generator, found = np.random.default_rng(experiment.seed), []
    for _ in range(SAMPLES):
        try:
            found.append(experiment.config(experiment.space.sample(generator)))
        except ConfigError:
            continue
    return found
