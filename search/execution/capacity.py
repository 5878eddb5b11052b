"""The number of trials of a search that may run at once.

Where a search has its machine for itself, that number is fixed; on a cluster it changes
(`cluster_capacity`).
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


class Limit:
    """The limit of a search that has its machine for itself: it is computed once and stays."""

    def __init__(self, experiment: Experiment, have: Machines, planned: int) -> None:
        self.experiment, self.have = experiment, have
        self.most = min(experiment.concurrency or MANY, planned)

    def workers(self, demand: Demand) -> int:
        """Return the number of workers with this demand that may exist now.

        Raises:
            NotReady: not even one fits.
        """
        return min(slots(self.have, demand), self.most)

    def room(self, workers: "Workers") -> int | None:
        """Return for how many trials there is room at once, whatever number the user wants.

        None where that changes. Trials that share workers have those that were started.
        """
        if workers.members > 1:
            return workers.members * len(workers.shared)
        return slots(self.have, workers.demand)

    def ticking(self, driver: Driver, workers: "Workers", tick: Tick) -> Tick:
        """Return a tick that also checks whether the number of trials at once still holds."""
        return tick


def on_cluster(experiment: Experiment, have: Machines, coming: "Growth | None") -> Experiment:
    """Return the search with its device chosen, if that was left to the cluster.

    It trains on GPUs where a trial that uses them has room now, or will have room on the machines
    that an autoscaler may bring.
    """
    demand = experiment.demand_with_gpu
    will_be = coming is not None and coming.is_known and coming.room(demand) >= 1
    return experiment.on_device(gpus=have.room(demand) >= demand.workers or will_be)


def idle_gpus(
    experiment: Experiment, have: Machines, coming: "Growth | None" = None, *, is_open: bool
) -> Iterator[str]:
    """Yield a note on the cluster's GPUs that a search of networks will leave idle.

    Where the device was left open (`is_open`), the note also says how the search could use them.
    """
    if experiment.demand.gpus or not experiment.has_networks:
        return
    whose = "of a trial's workers one" if experiment.demand.workers > 1 else "trial one"
    use = f"{Remedy('run', options={'gpus-per-trial': 1}, start=Start.MODULE)} gives each {whose}"
    is_known = coming is not None and coming.is_known
    count = max(
        have.gpus,
        coming.largest_cluster(experiment.demand_with_gpu).gpus
        if coming is not None and is_known
        else 0,
    )
    if count:
        verb = "lie" if count > 1 else "lies"
        yield (
            f"note: {count:g} GPU{'s' * (count > 1)} of the cluster {verb} idle: "
            "this search trains on the CPU" + f". {use}" * is_open
        )
    elif coming is not None and not is_known and is_open:
        yield (
            "note: the cluster has no GPU now, and does not say what machines may come: "
            f"this search trains on the CPU. {use}, if any may"
        )


@contextmanager
def limited(
    experiment: Experiment, have: Machines, planned: int, *, say: Callable[[str], None]
) -> Iterator[Limit]:
    """Give the limit of a search, or a selection, of at most `planned` trials, while it runs.

    Raises:
        NotReady: see `ClusterLimit.begin`.
    """
    if experiment.address == LOCAL:
        yield Limit(experiment, have, planned)
        return
    from cluster.runtime.nodes import growth  # Ray, which is imported once its environment is set
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
