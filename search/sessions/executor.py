"""The interface between a session and the executor that trains and evaluates for it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from search.decisions.driver import Driver
from search.design.experiment import Experiment
from search.execution.evaluation import Crew, Tick
from search.execution.packing import Packing
from search.preflight.prepare import Prepared
from search.values.executors import EXECUTORS
from trainables.catalog.entries import import_object


class Executor(Protocol):
    """An executor that has begun: it trains and evaluates for one session."""

    @property
    def experiment(self) -> Experiment:
        """The search, with the device on which it trains."""

    @property
    def at_once(self) -> int:
        """The number of trials that may run at once when the session begins."""

    @property
    def room(self) -> int | None:
        """The number of trials for which there is room at once; None where it changes, and the
        executor resizes.
        """

    @property
    def packing(self) -> Packing:
        """The number of trials that train as one network, and of workers that share a GPU."""

    @property
    def crew(self) -> Crew:
        """The processes that evaluate after the last trial."""

    @property
    def shows_table(self) -> bool:
        """True if a table may be drawn on the terminal while it trains."""

    def ticking(self, driver: Driver, tick: Tick) -> Tick:
        """Return a tick that also runs what the executor has to do several times a second."""

    def train(self, driver: Driver, *, tick: Tick) -> None:
        """Train trials, and give the driver each report and failure, until it has no more trials.

        Raises:
            NotReady: nothing can be trained any more; what was done is in the journal.
        """

    def close(self) -> None:
        """Release the processes that have trained and evaluated."""


class Begin(Protocol):
    """The context manager with which an executor begins, and ends (`ExecutorEntry.begin`)."""

    def __call__(
        self,
        prepared: Prepared,
        planned: int,
        provenance: dict[str, str],
        *,
        say: Callable[[str], None],
        went_well: Callable[[], bool],
    ) -> AbstractContextManager[Executor]:
        """Begin; `prepared.waiting` receives the time spent waiting.

        Args:
            prepared: the search, and its data.
            planned: the largest number of trainings.
            provenance: the facts of `search.journal.provenance`.
            say: prints a line.
            went_well: returns, at the end, whether nobody will look for a reason in logs.

        Raises:
            NotReady: what it needs is not there.
        """


def load_begin(experiment: Experiment) -> Begin:
    """Import the function with which the executor of a search begins."""
    begin: Begin = import_object(EXECUTORS[experiment.executor].begin)
    return begin
