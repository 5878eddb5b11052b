"""The executor `inline`: trains in the command's own process, one trial after another.

It does not use Ray. It is meant for debugging (a breakpoint in a training stops this process), for
machines where Ray does not start, and for tests. A training that hangs is not detected, and a crash
of a training kills the search, which `search.resume` then continues.
"""

import socket
import traceback
from bdb import BdbQuit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from cluster.errors import NotReady
from cluster.secrets import redact
from search.decisions.driver import Driver
from search.design.experiment import Experiment
from search.execution.capacity import Tick
from search.execution.failures import keep_traceback, kind_of, last_line
from search.execution.job import Job
from search.execution.packing import Packing
from search.execution.process import BEYOND_REPAIR, Process, at_once
from search.preflight.prepare import Prepared
from search.values.message import Message, Remedy
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.messages import decode_reports, encode_reports


class Raised(RuntimeError):
    """An evaluation raised an error; the message is its traceback."""


class Call:
    """A deferred call of a method, which runs when `Here.wait` is called."""

    def __init__(self, method: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.method, self.arguments = method, arguments
        self.answer: Any = None
        self.error = ""

    def make(self) -> None:
        """Make the call, and store its result, or the traceback of its error.

        Raises:
            KeyboardInterrupt: the user quit a debugger during the call.
        """
        try:
            self.answer = self.method(*self.arguments)
        except BdbQuit as error:
            raise KeyboardInterrupt from error
        except Exception as error:  # noqa: BLE001 - any error is recorded as the reason
            self.error = _text(error)


class Here:
    """A `Crew` whose only worker is this process."""

    raised = broken = Raised

    def __init__(self, process: Process, dataset: Dataset) -> None:
        self.process, self.dataset = process, dataset

    def crew(self, count: int, *, started: int) -> list[Process]:
        """Return the only worker, this process."""
        return [self.process]

    def for_test(self) -> Process:
        """Return the only worker, this process."""
        return self.process

    def keep(self, worker: Process) -> None:
        """Do nothing, since this process lives until the end of the command."""

    def ask(self, worker: Process, method: str, *arguments: Any) -> Call:
        """Return a deferred call of the worker's method, which `wait` makes."""
        return Call(getattr(worker, method), arguments)

    def wait(self, pending: list[Call], timeout_s: float) -> list[Call]:
        """Make the first pending call and return it; there is no timeout."""
        pending[0].make()
        return pending[:1]

    def get(self, answer: Call) -> Any:
        """Return the result of a call that `wait` has made.

        Raises:
            Raised: the call raised an error.
        """
        if answer.error:
            raise Raised(answer.error)
        return answer.answer

    def kill(self, worker: Process) -> None:
        """Do nothing: `wait` returns only after the call, so a hang cannot be detected."""


class InlineExecutor:
    """The executor that trains and evaluates in this process."""

    at_once, packing = 1, Packing()
    room: ClassVar = 1
    shows_table: ClassVar = False

    def __init__(self, experiment: Experiment, dataset: Dataset) -> None:
        self.experiment = experiment
        demand, sealed = experiment.demand, dataset.sealed
        self.process = Process(
            device=experiment.device, threads=max(1, int(demand.cpus)), gpus=demand.gpus
        )
        self.process.open(sealed)
        self.crew = Here(self.process, sealed)

    def ticking(self, driver: Driver, tick: Tick) -> Tick:
        """Return `tick` unchanged: this executor always trains one trial at a time."""
        return tick

    def train(self, driver: Driver, *, tick: Tick) -> None:
        """Train trials one after another until the driver suggests no more.

        Raises:
            NotReady: a trial's error has left this process unable to train.
        """
        while (suggestion := _next_trial(driver)) is not None:
            trial, config = suggestion
            folder = driver.experiment.home.place(trial).folder
            request, download = driver.handout(trial, config), driver.experiment.download
            job = Job(trial, config.to_dict(), folder, request, download)
            try:
                self._train(driver, job, tick)
            finally:
                job.request.remove_local_folder(job.folder)

    def _train(self, driver: Driver, job: Job, tick: Tick) -> None:
        """Train one trial until it has finished, is paused or has failed."""
        reports, over = None, False
        tick()
        while not over:
            try:
                reports = reports or self.process.begin(job)
                came = decode_reports(encode_reports(at_once(reports)))
            except BdbQuit as error:  # `quit` in a debugger should end the search, not one trial
                raise KeyboardInterrupt from error
            except Exception as error:  # noqa: BLE001 - any error of a training is its failure
                return _fail(driver, job, error)
            tick()  # requests that arrived meanwhile apply to this epoch
            with driver.journal.group():
                over = [driver.report(job.trial, report) for report in came][-1]

    def close(self) -> None:
        """Release the data and the memory of training, and restore torch's settings."""
        self.process.close()


@contextmanager
def begin(
    prepared: Prepared,
    planned: int,
    provenance: dict[str, str],
    *,
    say: Callable[[str], None],
    went_well: Callable[[], bool],
) -> Iterator[InlineExecutor]:
    """Create the executor `inline`; see `search.sessions.executor.Begin`."""
    yield InlineExecutor(prepared.experiment, prepared.dataset)


def _next_trial(driver: Driver) -> tuple[str, TrialConfig] | None:
    """Return (name, config) of the next trial, which counts as running; None if there is none."""
    with driver.journal.group():
        if (suggestion := driver.suggest()) is not None:
            driver.running(suggestion[0], host=socket.gethostname())
    return suggestion


def _fail(driver: Driver, job: Job, error: Exception) -> None:
    """Report to the driver that a training raised an error.

    Raises:
        NotReady: the error has left this process unable to train.
    """
    trial, text = job.trial, _text(error)
    path = keep_traceback(driver.experiment.home, trial, job.request.attempt, text)
    driver.fail(trial, kind_of(error), last_line(text), traceback=path)
    if type(error).__name__ in BEYOND_REPAIR:
        raise NotReady(
            Message(
                f"{trial} raised an error after which this process can no longer train "
                f"({last_line(text)}). Continue with: ",
                Remedy("resume", driver.experiment.name, driver.experiment.storage),
            )
        )


def _text(error: Exception) -> str:
    """Format an error with its traceback, without secrets."""
    return redact("".join(traceback.format_exception(error)))
