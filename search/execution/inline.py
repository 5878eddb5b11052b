"""The executor `inline`: trains in the command's own process, one trial after another.

Nothing here knows Ray. It is for debugging, since a breakpoint in a training is one of this
process, for machines where Ray does not start, and for tests. No watch ends a training that hangs,
and what kills a training kills the search: it is gone on with by `search.resume`.
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
from trainables.checkpoints.remote import forget
from trainables.datasets.arrays import Dataset
from trainables.messages import decode_reports, encode_reports


class Raised(RuntimeError):
    """An evaluation raised; the message is its traceback."""


class Call:
    """A call that is made when its answer is waited for."""

    def __init__(self, method: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.method, self.arguments = method, arguments
        self.answer: Any = None
        self.error = ""

    def make(self) -> None:
        """Make the call, and keep what comes of it."""
        try:
            self.answer = self.method(*self.arguments)
        except BdbQuit as error:
            raise KeyboardInterrupt from error
        except Exception as error:  # noqa: BLE001 - whatever an evaluation raises is its reason
            self.error = _text(error)


class Here:
    """This process, as the crew that evaluates."""

    raised = broken = Raised

    def __init__(self, process: Process, dataset: Dataset) -> None:
        self.process, self.dataset = process, dataset

    def crew(self, count: int, *, started: int) -> list[Process]:
        """Return this process."""
        return [self.process]

    def for_test(self) -> Process:
        """Return this process."""
        return self.process

    def keep(self, worker: Process) -> None:
        """Do nothing: this process stays."""

    def ask(self, worker: Process, method: str, *arguments: Any) -> Call:
        """Return a call of this process's method, to be made when it is waited for."""
        return Call(getattr(worker, method), arguments)

    def wait(self, pending: list[Call], timeout_s: float) -> list[Call]:
        """Make the first call, however long that takes, and return it."""
        pending[0].make()
        return pending[:1]

    def get(self, answer: Call) -> Any:
        """Return the result of a call that was made.

        Raises:
            Raised: it raised.
        """
        if answer.error:
            raise Raised(answer.error)
        return answer.answer

    def kill(self, worker: Process) -> None:
        """Do nothing: a call that hangs is never waited for in vain."""


class InlineExecutor:
    """This process, prepared for training."""

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
        """Return the tick as it is: there is always one trial at once."""
        return tick

    def train(self, driver: Driver, *, tick: Tick) -> None:
        """Train trials in turn until the driver has no more.

        Raises:
            NotReady: after an error this process is fit for no other trial.
        """
        while (suggestion := driver.suggest()) is not None:
            trial, config = suggestion
            folder = driver.experiment.home.place(trial).folder
            request, download = driver.handout(trial, config), driver.experiment.download
            job = Job(trial, config.to_dict(), folder, request, download)
            driver.running(trial, host=socket.gethostname())
            try:
                self._train(driver, job, tick)
            finally:
                forget(job.folder, job.request.mirror, job.request.attempt)

    def _train(self, driver: Driver, job: Job, tick: Tick) -> None:
        """Train one trial until it is over, or paused, or has failed."""
        reports, over = None, False
        tick()
        while not over:
            try:
                reports = reports or self.process.begin(job)
                came = decode_reports(encode_reports(at_once(reports)))
            except BdbQuit as error:  # a debugger's `quit` is meant for all trials
                raise KeyboardInterrupt from error
            except Exception as error:  # noqa: BLE001 - whatever a training raises, it has failed
                return _fail(driver, job, error)
            tick()  # what was asked for meanwhile counts for this epoch
            over = [driver.report(job.trial, report) for report in came][-1]

    def close(self) -> None:
        """Give back what this process, the command's own, held for training."""
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
    """Prepare this process for training; see `search.sessions.executor.Begin`."""
    yield InlineExecutor(prepared.experiment, prepared.dataset)


def _fail(driver: Driver, job: Job, error: Exception) -> None:
    """Tell the driver that a training raised.

    Raises:
        NotReady: after this error this process is fit for no other trial.
    """
    trial, text = job.trial, _text(error)
    path = keep_traceback(driver.experiment.home, trial, job.request.attempt, text)
    driver.fail(trial, kind_of(error), last_line(text), traceback=path)
    if type(error).__name__ in BEYOND_REPAIR:
        raise NotReady(
            Message(
                f"{trial} raised an error after which this process cannot train any more "
                f"({last_line(text)}). Go on with: ",
                Remedy("resume", driver.experiment.name, driver.experiment.storage),
            )
        )


def _text(error: Exception) -> str:
    """Return an error's traceback."""
    return redact("".join(traceback.format_exception(error)))
