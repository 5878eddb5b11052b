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
    """An executor that has started: it trains and evaluates for one session."""

    @property
    def experiment(self) -> Experiment:
        """The experiment, with the device on which its trials are trained."""

    @property
    def at_once(self) -> int:
        """The number of trials that may run at once at the start of the session."""

    @property
    def room(self) -> int | None:
        """The number of trials for which the machines have room at once.

        None if this number may change; the executor then calls `Driver.resize`.
        """

    @property
    def packing(self) -> Packing:
        """The number of trials that share a worker, and the number of workers that share a GPU."""

    @property
    def crew(self) -> Crew:
        """The processes that evaluate after the last trial."""

    @property
    def shows_table(self) -> bool:
        """True if a live table may be drawn on the terminal during training."""

    def ticking(self, driver: Driver, tick: Tick) -> Tick:
        """Extend `tick`, which is called regularly, by the periodic work of the executor."""

    def train(self, driver: Driver, *, tick: Tick) -> None:
        """Train trials until the driver suggests no more, and pass all reports and failures to it.

        Raises:
            NotReady: training cannot continue; the results until then are in the journal.
        """

    def close(self) -> None:
        """Release the processes that train and evaluate."""


class Begin(Protocol):
    """A function that starts an executor, as a context manager that stops it on exit.

    Each `ExecutorEntry` names such a function (`begin`).
    """

    def __call__(
        self,
        prepared: Prepared,
        planned: int,
        provenance: dict[str, str],
        *,
        say: Callable[[str], None],
        went_well: Callable[[], bool],
    ) -> AbstractContextManager[Executor]:
        """Start the executor; the time spent waiting is added to `prepared.waiting`.

        Args:
            prepared: the search, and its data.
            planned: the maximum number of trainings.
            provenance: the facts of `search.journal.provenance`.
            say: prints a line.
            went_well: called at the end; returns False if the logs of the executor may be needed.

        Raises:
            NotReady: the executor cannot start.
        """


def load_begin(experiment: Experiment) -> Begin:
    """Import the function that starts the executor of a search."""
    begin: Begin = import_object(EXECUTORS[experiment.executor].begin)
    return begin
