"""How many trials of a search may run at once. On its own machine that is a number; on a cluster it changes (`cluster_limit`)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cluster.resources import MANY, Demand, Machines, slots
from cluster.session import LOCAL
from search.driver import Driver
from search.experiment import Experiment

if TYPE_CHECKING:
    from search.workers import Workers

Tick = Callable[[], None]


class Limit:
    """Of a search that has its machine for itself: what fits, once and for all."""

    def __init__(self, experiment: Experiment, have: Machines, planned: int) -> None:
        self.experiment, self.have = experiment, have
        self.most = min(experiment.concurrency or MANY, planned)

    def workers(self, demand: Demand) -> int:
        """How many workers that hold this much may be there now.

        Raises:
            NotReady: not even one fits.
        """
        return min(slots(self.have, demand), self.most)

    def at_most(self, at_once: int) -> int:
        """How many trials there may ever be at once, when there are so many now."""
        return at_once

    def ticking(self, driver: Driver, workers: "Workers", tick: Tick) -> Tick:
        """A tick that also looks whether the number is still right."""
        return tick


@contextmanager
def limited(experiment: Experiment, have: Machines, planned: int, *, say: Callable[[str], None]) -> Iterator[Limit]:
    """What limits a search, or a selection, of so many trials at most, while it runs.

    Raises:
        NotReady: as `ClusterLimit.begin`.
    """
    if experiment.address == LOCAL:
        yield Limit(experiment, have, planned)
        return
    from search.cluster_limit import ClusterLimit  # Ray, which is imported once its environment is set

    limit = ClusterLimit(experiment, have, planned, say=say)
    try:
        limit.begin()
        yield limit
    finally:
        limit.end()
