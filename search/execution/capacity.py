"""The maximum number of trials of a search that run at the same time.

On a single machine, this limit is fixed. On a cluster, it changes (`cluster_capacity`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cluster.runtime.resources import MANY, Demand, Machines, slots
from cluster.runtime.session import LOCAL
from search.decisions.driver import Driver
from search.design.experiment import AUTO_DEVICE, Experiment
from search.values.message import Remedy, Start

if TYPE_CHECKING:
    from cluster.runtime.nodes import Growth
    from search.execution.pool import Workers

Tick = Callable[[], None]
"""A function that is called several times a second while trials run, for periodic work."""


class Limit:
    """The maximum number of concurrent trials of a search on a single machine. It never changes."""

    def __init__(self, experiment: Experiment, have: Machines, planned: int) -> None:
        self.experiment, self.have = experiment, have
        self.most = min(experiment.concurrency or MANY, planned)

    def workers(self, demand: Demand) -> int:
        """Return the maximum number of workers that may exist now.

        Args:
            demand: the resources that one worker needs.

        Raises:
            NotReady: the machine is too small for one worker.
        """
        return min(slots(self.have, demand), self.most)

    def room(self, workers: "Workers") -> int | None:
        """Return the number of trials that fit on the machine, regardless of `--concurrency`.

        If trials share workers, this is the number of trials that the started workers can train at
        the same time. A subclass returns None if the number may change.
        """
        if workers.members > 1:
            return workers.members * len(workers.shared)
        return slots(self.have, workers.demand)

    def ticking(self, driver: Driver, workers: "Workers", tick: Tick) -> Tick:
        """Return `tick` unchanged, since this limit never changes.

        `ClusterLimit` returns a tick that also updates the number of concurrent trials.
        """
        return tick


def on_cluster(experiment: Experiment, have: Machines, coming: "Growth | None") -> Experiment:
    """Choose the device of a search on a cluster, if the user left it open (`AUTO_DEVICE`).

    The search trains on GPUs if a trial with GPUs fits on the cluster now, or would fit after the
    autoscaler has added machines.

    Args:
        experiment: the search.
        have: the machines of the cluster now.
        coming: the autoscaler's limits; None without an autoscaler.
    """
    demand = experiment.demand_with_gpu
    will_be = coming is not None and coming.is_known and coming.room(demand) >= 1
    return experiment.on_device(gpus=have.room(demand) >= demand.workers or will_be)


def idle_gpus(
    experiment: Experiment, have: Machines, coming: "Growth | None" = None, *, is_open: bool
) -> Iterator[str]:
    """Yield a note if a search that trains networks on CPUs leaves the cluster's GPUs idle.

    Args:
        experiment: the search.
        have: the machines of the cluster now.
        coming: the autoscaler's limits; None without an autoscaler.
        is_open: True if the user did not choose a device. The note then also explains how to use
            the GPUs.
    """
    if experiment.demand.gpus or not experiment.has_networks:
        return
    user = "worker of a trial" if experiment.demand.workers > 1 else "trial"
    run = Remedy("run", options={"gpus-per-trial": 1}, start=Start.MODULE)
    use = f"{run} gives each {user} a GPU"
    is_known = coming is not None and coming.is_known
    count = max(
        have.gpus,
        coming.largest_cluster(experiment.demand_with_gpu).gpus
        if coming is not None and is_known
        else 0,
    )
    if count:
        verb = "are" if count > 1 else "is"
        yield (
            f"note: {count:g} GPU{'s' * (count > 1)} of the cluster {verb} idle, because "
            "this search trains on the CPU" + f". {use}" * is_open
        )
    elif coming is not None and not is_known and is_open:
        yield (
            "note: the cluster has no GPU now and does not report which machines may be added, so "
            f"this search trains on the CPU. If GPUs may be added, {use}"
        )


@contextmanager
def limited(
    experiment: Experiment, have: Machines, planned: int, *, say: Callable[[str], None]
) -> Iterator[Limit]:
    """Yield the limit of concurrent trials for a search or a selection.

    On a cluster, the search announces itself to other searches on entry, and withdraws the
    announcement on exit.

    Args:
        experiment: the search.
        have: the machine, or the machines of the cluster.
        planned: the maximum number of trials in total.
        say: prints a note.

    Raises:
        NotReady: see `ClusterLimit.begin`.
    """
    if experiment.address == LOCAL:
        yield Limit(experiment, have, planned)
        return
    from cluster.runtime.nodes import growth  # imports Ray, after its environment is set
    from search.execution.cluster_capacity import ClusterLimit

    coming, is_open = growth(), experiment.device == AUTO_DEVICE
    experiment = on_cluster(experiment, have, coming)
    for note in idle_gpus(experiment, have, coming, is_open=is_open):
        say(note)
    limit = ClusterLimit(experiment, have, planned, say=say)
    try:
        limit.begin()
        yield limit
    finally:
        limit.end()
