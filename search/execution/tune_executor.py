"""The executor `tune`: Ray Tune, with workers on this machine or on a cluster.

Ray reads its environment variables when it is imported. Therefore this module imports Ray only
after `session` has set these variables.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cluster.runtime.patches import check_patches
from cluster.runtime.resources import MANY
from cluster.runtime.session import session
from search.decisions.driver import Driver
from search.design.experiment import Experiment
from search.execution.capacity import Limit, Tick, limited
from search.preflight.prepare import Prepared

if TYPE_CHECKING:
    from search.execution.packing import Packing
    from search.execution.pool import Workers


@dataclass(frozen=True)
class TuneExecutor:
    """The executor `tune` while Ray runs, with the workers and the limit of concurrent trials."""

    limit: Limit
    crew: "Workers"
    at_once: int
    """The number of trials that may run at the same time at the start of the session."""
    packing: "Packing"
    shows_table: ClassVar = True

    @property
    def room(self) -> int | None:
        """The number of trials that fit at the same time; None if that number may change."""
        return self.limit.room(self.crew)

    @property
    def experiment(self) -> Experiment:
        """The experiment, with the device that was chosen for it."""
        return self.limit.experiment

    def ticking(self, driver: Driver, tick: Tick) -> Tick:
        """Return a tick that also adapts the number of concurrent trials, on a cluster."""
        return self.limit.ticking(driver, self.crew, tick)

    def train(self, driver: Driver, *, tick: Tick) -> None:
        """Run trials until the driver suggests no more.

        Raises:
            NotReady: Ray failed; the results until then are in the journal.
        """
        from search.execution.tune import tune_search

        self.crew.reuse_returned()
        tune_search(driver, self.crew, slots=self.room or MANY, tick=tick)

    def close(self) -> None:
        """Release all workers."""
        self.crew.close()


@contextmanager
def begin(
    prepared: Prepared,
    planned: int,
    provenance: dict[str, str],
    *,
    say: Callable[[str], None],
    went_well: Callable[[], bool],
) -> Iterator[TuneExecutor]:
    """Start Ray or join the cluster, and start workers; see `search.sessions.executor.Begin`.

    Raises:
        NotReady: Ray does not start, or a patch does not fit this version of Ray.
    """
    experiment, waiting = prepared.experiment, prepared.waiting
    with (
        session(
            experiment.address,
            local=prepared.local,
            dashboard=experiment.demand.workers > 1,
            meanwhile=import_tune,
            tidy=went_well,
        ) as have,
        waiting.entering(limited(experiment, have, planned, say=say)) as limit,
        # Ray prints paragraphs about each process that died; the journal has the reason.
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
    ):
        from search.execution.packing import staff
        from search.execution.pool import Workers
        from search.execution.tune_patches import PATCHES

        check_patches(PATCHES)  # before workers start and the journal has its first event
        workers = Workers(limit.experiment, prepared.dataset, provenance)
        with waiting.counting():
            at_once, packing = staff(limit.experiment, workers, limit, say=say)
        yield TuneExecutor(limit, workers, at_once, packing)


def import_tune() -> None:
    """Import Tune, which takes about a second, while Ray's processes start."""
    import search.execution.tune  # noqa: F401
