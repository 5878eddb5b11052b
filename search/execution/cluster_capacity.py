"""The maximum number of trials of a search that run at the same time on a cluster.

It is the number of trials that fit on the machines, minus the share of other searches. Machines
join and leave, and other searches start and end, so the limit is updated every few seconds. If the
search can use more machines, they are all requested from the autoscaler at once.
"""

import math
import time
from collections.abc import Callable
from contextlib import suppress

import ray

from cluster.errors import NotReady
from cluster.runtime.fair_share import Shares, Use, share
from cluster.runtime.nodes import CapacityRequest, growth, machines, nodes
from cluster.runtime.resources import MANY, Demand, Machines, resources_text, slots
from cluster.runtime.shared_folder import ANSWER_S, SharedFolderCheck
from search.decisions.driver import Driver
from search.design.experiment import Experiment
from search.execution.capacity import Limit, Tick
from search.execution.pool import Workers

EVERY_S, WAIT_S = 2.0, 0.5
"""Seconds between two updates of the limit: `EVERY_S` while trials run, and `WAIT_S` while the
first trial waits for machines.
"""


class ClusterLimit(Limit):
    """The maximum number of concurrent trials of a search on a cluster.

    It changes with the machines of the cluster and with the other searches on it.
    """

    def __init__(
        self, experiment: Experiment, have: Machines, planned: int, *, say: Callable[[str], None]
    ) -> None:
        super().__init__(experiment, have, planned)
        self.planned = planned
        self.say, self.growth = say, growth()
        self.shares, self.call, self.witness = (
            Shares(),
            CapacityRequest(),
            SharedFolderCheck(
                experiment.folder if experiment.home.is_shared else None, storage=experiment.storage
            ),
        )
        self.searches: list[tuple[Use, bool]] = []
        self.looked = time.monotonic()
        self.left = 0
        """The number of pending trials at the last tick."""

    def begin(self) -> None:
        """Announce this search to others, wait for room for one trial, and check the storage.

        Raises:
            NotReady: one trial would not fit even on the largest possible cluster, or a machine
                cannot access the storage.
        """
        self._look(self.most, self.experiment.demand)
        self._wait_for_machines()
        self.witness.collect_answers(ANSWER_S)
        if len(self.searches) > 1:
            mine = _trials(self.workers(self.experiment.demand))
            few = slots(self.have, self.experiment.demand) < len(self.searches)
            when = (
                "as soon as another search has freed resources"
                if few
                else "as soon as trials of the other searches have ended"
            )
            self.say(
                f"note: {len(self.searches)} searches share the cluster; "
                f"this search will run {mine} at once, {when}"
            )

    def end(self) -> None:
        """Withdraw the requests for machines and the announcement of this search."""
        # These errors mean that Ray has stopped. Then the requests and the announcement are gone.
        with suppress(ray.exceptions.RayError, ConnectionError):
            self.call.end()
            self.shares.end()
        self.witness.end()

    def workers(self, demand: Demand) -> int:
        """Return the maximum number of workers that may exist now.

        It is the number that fits on the cluster, minus the share of other searches.

        Args:
            demand: the resources that one worker needs.

        Raises:
            NotReady: one worker does not fit on the cluster.
        """
        return min(share(slots(self.have, demand), self.have, demand, self.searches), self.most)

    def room(self, workers: Workers) -> None:
        """Return None: the number of trials that fit is not fixed, since the cluster may grow."""

    def ticking(self, driver: Driver, workers: Workers, tick: Tick) -> Tick:
        """Return a tick that also adapts the number of concurrent trials to the cluster.

        The tick checks the cluster every `EVERY_S`, and immediately when more trials are pending
        than at the last tick, since a machine may have been lost. If the limit has changed, the
        tick resizes the driver and the workers.
        """

        def tick_and_look() -> None:
            tick()
            lost, self.left = len(driver.pending) > self.left, len(driver.pending)
            if lost or time.monotonic() - self.looked > EVERY_S:
                self._resize(driver, workers)

        return tick_and_look

    def _resize(self, driver: Driver, workers: Workers) -> None:
        """Resize the search to its current share of the cluster."""
        # `search.extend` may have changed the number of trials or the concurrency since the start.
        more = driver.experiment.planned_trials - self.experiment.planned_trials
        self.most = min(driver.experiment.concurrency or MANY, self.planned + max(0, more))
        self._look(math.ceil(driver.outstanding / workers.members), workers.demand)
        self.witness.collect_answers()
        if not driver.outstanding:
            return
        count = self.workers(workers.demand) if self._is_room(workers.demand) else 1
        if count != workers.count or workers.members > 1:
            count = max(1, workers.resize(count))
        at_once = min(count * workers.members, self.most)
        if at_once != driver.slots:
            reason = _in_words(self.have) + (
                f", which {len(self.searches)} searches share" if len(self.searches) > 1 else ""
            )
            driver.resize(at_once, reason)
            driver.journal.complain(
                f"note: the search runs {_trials(at_once)} at once from now on, because the "
                f"cluster has {reason}"
            )

    def _look(self, worker_count: int, demand: Demand) -> None:
        """Look up the machines and the other searches, and request further machines if useful.

        The resources that this search could use are announced to the other searches.

        Args:
            worker_count: the number of workers that this search could use.
            demand: the resources that one worker needs.
        """
        self.looked = time.monotonic()
        self.have = machines()
        self.shares.tell(
            Use(
                cpus=max(1, worker_count) * demand.workers * demand.cpus,
                gpus=max(1, worker_count) * demand.workers * demand.gpus,
            )
        )
        self.searches = self.shares.search_uses()
        self.witness.ask({node: facts["NodeManagerAddress"] for node, facts in nodes().items()})
        if self.growth is not None:
            self.call.ask(
                min(worker_count, self._possible(demand))
                - share(self.have.room(demand) // demand.workers, self.have, demand, self.searches),
                demand,
            )

    def _possible(self, demand: Demand) -> int:
        """Compute the number of workers that this search may use on the largest possible cluster.

        It is `MANY` if the autoscaler's limits are not known.
        """
        assert self.growth is not None
        return (
            share(
                self.growth.room(demand), self.growth.largest_cluster(demand), demand, self.searches
            )
            if self.growth.is_known
            else MANY
        )

    def _is_room(self, demand: Demand) -> bool:
        """True if one trial with all its workers fits on the cluster now."""
        return self.have.room(demand) >= demand.workers

    def _wait_for_machines(self) -> None:
        """Wait until one trial fits, if an autoscaler may add machines.

        Raises:
            NotReady: one trial does not fit, and would not fit on the largest possible cluster.
        """
        demand, is_told = self.experiment.demand, False
        while not self._is_room(demand):
            if self.growth is None:
                slots(self.have, demand)  # raises NotReady, since the trial does not fit
            elif self.growth.room(demand) < 1:
                largest = self.growth.largest_cluster(demand)
                there = (
                    "the cluster can have at most "
                    f"{resources_text(largest.cpus, largest.gpus)}{largest.where}"
                )
                raise NotReady(
                    f"one trial needs {demand.in_words}, but {there}. "
                    "Increase max_workers in the cluster's file, or reduce --workers, "
                    "--cpus-per-trial or --gpus-per-trial."
                )
            elif not is_told:
                self.say(
                    f"waiting for machines: one trial needs {demand.in_words}, but the cluster has "
                    f"{_in_words(self.have)}; more machines were requested"
                )
                is_told = True
            time.sleep(WAIT_S)
            self._look(self.most, demand)


def _in_words(have: Machines) -> str:
    return (
        f"{len(have.each)} machine{'s' * (len(have.each) != 1)} "
        f"with {resources_text(have.cpus, have.gpus)}"
    )


def _trials(number: int) -> str:
    return f"{number} trial{'s' * (number != 1)}"
