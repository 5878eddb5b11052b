"""The packing of a search: how many trials share a worker, and how many workers share a GPU.

The user sets these numbers, or they are chosen by measurements before the search begins.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from cluster.cli import is_whole
from cluster.runtime.resources import Demand, Resources, slots
from search.design.experiment import Experiment
from search.execution.capacity import Limit
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.fusion.shapes import same_shape_fraction, shape_key
from trainables.values import Json

if TYPE_CHECKING:
    from search.execution.pool import Workers

SAMPLES = 64
"""The number of random configurations that are sampled to estimate how many trials can be fused."""
SHARES = (2, 4, 8)
"""The numbers of processes per GPU whose throughput is measured."""
ROUNDS = {"bayes": 4, "gp": 4}
"""The minimal number of rounds of an algorithm; in a round, all slots train one trial each.

An algorithm that learns from results needs several rounds; others need one.
"""
PATIENCE_S = 120.0
"""Seconds after which a measurement is abandoned."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """The packing of trials: `members` trials share a worker, and `per_gpu` workers share a GPU."""

    members: int = 1
    per_gpu: int = 1
    reason: str = ""
    measured: dict[str, float] = field(default_factory=dict)
    """Maps each measured way of training, such as `plain` or `fused x8`, to images per second."""

    def __str__(self) -> str:
        """Describe the packing and its reason in words; empty without a reason."""
        how = (
            f"{self.members} trials per worker"
            if self.members > 1
            else f"{self.per_gpu} workers per GPU"
            if self.per_gpu > 1
            else "one trial per worker"
        )
        return f"{how}: {self.reason}" if self.reason else ""

    def describe(self) -> Json:
        """Return the packing as JSON-compatible values, for the journal."""
        return asdict(self)


def staff(
    experiment: Experiment, workers: "Workers", limit: Limit, *, say: Callable[[str], None]
) -> tuple[int, Packing]:
    """Start the workers of a search, and decide how trials share them.

    Args:
        experiment: the search.
        workers: the workers of the search, none of which has started.
        limit: the maximum number of concurrent trials.
        say: prints a note on the packing.

    Returns:
        The number of trials that run at once, and the packing.
    """
    workers.start(limit.workers(experiment.demand))
    packing = pack(experiment, workers, limit.have)
    if str(packing):
        say(f"note: {packing}")
    if packing.per_gpu > 1:
        workers.demand = replace(experiment.demand, gpus=experiment.demand.gpus / packing.per_gpu)
    count = limit.workers(workers.demand)
    workers.share(packing.members, count)
    return min(count * packing.members, limit.most), packing


def pack(experiment: Experiment, workers: "Workers", have: Resources) -> Packing:
    """Choose the packing for a search on a machine or cluster with these resources.

    With `--fuse N`, N trials share a worker. With `--fuse measure`, workers measure the throughput
    of a sampled network; `--fuse auto` does the same if each trial has a whole GPU. In all other
    cases, and if the measurement fails, each trial has its own worker.
    """
    fuse, count = experiment.fuse, slots(have, experiment.demand)
    if is_whole(fuse):
        return requested_packing(experiment, int(fuse), count)
    is_gpu = experiment.device != "cpu"
    if (
        fuse == "off"
        or (fuse == "auto" and not (is_gpu and experiment.demand.gpus == 1))
        or experiment.demand.workers > 1
    ):
        return Packing()
    # Networks come first, since the throughput is measured with the first config.
    configs = sorted(sample(experiment), key=lambda config: config.model.is_baseline)
    if configs and configs[0].model.is_baseline:
        return Packing()
    most = most_members(experiment, count)
    if not configs or most < 2:
        return Packing(reason="there are too few trials for more than one per worker")
    try:
        return measured(
            configs,
            workers,
            most,
            [
                number
                for number in SHARES
                if number <= most and fits(have, experiment.demand, number)
            ]
            if is_gpu
            else [],
        )
    except (workers.broken, TimeoutError) as error:
        return Packing(
            reason=f"could not be measured ({(str(error).splitlines() or [''])[0][:200]})"
        )


def requested_packing(experiment: Experiment, requested: int, count: int) -> Packing:
    """Return the packing with the requested number of members, but at most `most_members`.

    The reason in the packing includes a warning if trials that can be fused will rarely run at the
    same time.

    Args:
        experiment: the search.
        requested: the number of trials per worker that `--fuse` requests.
        count: the number of workers.
    """
    members = min(requested, most_members(experiment, count))
    reason = "as requested"
    if members < requested:
        rounds = ROUNDS.get(experiment.algorithm, 1)
        if (experiment.concurrency or 10**6) // count <= members:
            reason = (
                f"--concurrency {experiment.concurrency} allows no more (requested: {requested})"
            )
        else:
            times = f", {rounds} times over with {experiment.algorithm}" if rounds > 1 else ""
            reason = (
                f"{requested} on {count} workers take {requested * count} trials at once{times}; "
                f"there are {experiment.planned_trials}"
            )
    if (
        members > 1
        and members * same_shape_fraction([shape_key(config) for config in sample(experiment)]) < 2
    ):
        reason += (
            "; but few trials will run at the same time as one of the same shape (network, batch "
            "size, optimizer), and the others are trained one after another"
        )
    return Packing(members=members, reason=reason)


def fits(have: Resources, demand: Demand, number: int) -> bool:
    """True if there are enough CPUs for `number` workers on each GPU."""
    return slots(have, replace(demand, gpus=demand.gpus / number)) == number * slots(have, demand)


def measured(
    configs: list[TrialConfig], workers: "Workers", most: int, numbers: list[int]
) -> Packing:
    """Let workers measure several packings, and return the fastest one.

    Args:
        configs: sampled configurations; the first is measured.
        workers: the workers that measure.
        most: the maximal number of trials per worker.
        numbers: the numbers of processes per GPU to measure; empty on CPUs.

    Raises:
        TimeoutError: a measurement takes longer than `PATIENCE_S`.
    """
    rates = (
        {number: workers.rates(configs[0], number, PATIENCE_S) for number in (1, *numbers)}
        if numbers
        else {}
    )
    plan = workers.plan(configs, most, rates, PATIENCE_S)
    members = plan["members"] if plan["kind"] == "fused" else 1
    per_gpu = plan["members"] if plan["kind"] == "processes" else 1
    return Packing(
        members=members, per_gpu=per_gpu, reason=plan["reason"], measured=dict(plan["measured"])
    )


def most_members(experiment: Experiment, count: int) -> int:
    """Return the maximal number of trials that may share one of `count` workers, at least 1.

    The number is chosen so that all workers have trials for the rounds that the algorithm needs
    (`ROUNDS`), and that `--concurrency` is not exceeded.
    """
    rounds = ROUNDS.get(experiment.algorithm, 1)
    at_once = min(experiment.planned_trials // rounds, experiment.concurrency or 10**6)
    return max(1, at_once // count)


def sample(experiment: Experiment) -> list[TrialConfig]:
    """Sample `SAMPLES` configurations from the space, and return the valid ones."""
    generator, configs = np.random.default_rng(experiment.seed), []
    for _ in range(SAMPLES):
        try:
            configs.append(experiment.config(experiment.space.sample(generator)))
        except ConfigError:
            continue
    return configs
