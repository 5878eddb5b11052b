"""The end of a session: signals, what is still written, the result and the exit code."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

from cluster.cli import error_line
from cluster.errors import NotReady, Refused
from cluster.exit_codes import ExitCode
from cluster.secrets import redact
from search.decisions.driver import Driver
from search.design.experiment import Experiment
from search.journal.guessing import is_answer_at_chance
from search.journal.journal import FILE_NAME, JournalError, Unwritten
from search.journal.result import (
    ENDED,
    NO_TIME,
    STUDY,
    SearchResult,
)
from search.process.lifetime import CommandStart
from search.tracking.tracker import PATIENCE_S, Tracker
from search.values.message import Remedy
from search.views.base import Finished
from search.views.opened import OpenViews

ExitCodeRule = Callable[[SearchResult, list[int], list[str]], int]
"""Gives the exit code for a result, the signals that came and the troubles that were reported."""
TERM_GRACE_S = 12
"""After SIGTERM, the seconds in which trials may finish their epoch."""
HURRY_S = 5.0
"""Seconds that a search that was interrupted waits for MLflow."""


@contextmanager
def interruptible(driver: Driver, note: Callable[[str], None], command: str) -> Iterator[list[int]]:
    """Let a first Ctrl-C or SIGTERM stop each trial after its epoch, and a second one break off.

    Once the trials are over, the first one breaks off their evaluation.

    After SIGTERM the search also breaks off when `TERM_GRACE_S` is over: the sender kills soon
    after. Yields the signals that came; `note` prints a line, `command` continues the search.
    """
    signals: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGALRM:
            signals.append(number)
        if number == signal.SIGALRM or len(signals) > 1:
            signal.alarm(0)
            return driver.journal.break_off()
        driver.close("interrupted", f"stopped by {signal.Signals(number).name}")
        if number == signal.SIGTERM:  # until now an alarm is somebody else's
            handlers[signal.SIGALRM] = signal.signal(signal.SIGALRM, handle)
            signal.alarm(TERM_GRACE_S)
        note(stopping_text(driver, command))

    handlers: dict[int, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        handlers[number] = signal.signal(number, handle)
    try:
        yield signals
    finally:
        if signal.SIGALRM in handlers:
            signal.alarm(0)
        for changed, handler in handlers.items():
            signal.signal(changed, handler)


def stopping_text(driver: Driver, command: str) -> str:
    """The consequence of a first Ctrl-C or SIGTERM now; `command` continues the search."""
    if driver.is_done:
        return f"stopping once what is known is written (Ctrl-C again breaks off). Later: {command}"
    if driver.has_trained:
        return (
            "stopping: the evaluation is broken off; all trainings, and what was measured of them, "
            f"are kept. To go on: {command}"
        )
    return (
        "stopping: each trial finishes its epoch (Ctrl-C again breaks off); "
        "a resume goes on from there"
    )


@contextmanager
def closing_early(driver: Driver, troubles: list[str]) -> Iterator[None]:
    """Close the search with the error that ends it early; one that a user can mend is a trouble."""
    try:
        yield
    except (KeyboardInterrupt, Unwritten):
        driver.close("interrupted", "broken off")
    except Refused as error:
        troubles.append(str(error))
    except NotReady as error:
        troubles.append(str(error))
        driver.close("lost", str(error))
    except BaseException:
        driver.close("lost", "the search broke off")
        raise


def wind_up(
    driver: Driver,
    tracker: Tracker,
    views: OpenViews,
    troubles: list[str],
    *,
    look: Callable[[], None],
    hurry: bool,
) -> None:
    """Write the files of views and the study, then the last event, and wait for MLflow.

    Requests until then are answered. A step that fails does not keep the others from being done.

    Args:
        driver: the driver, which suggests no more trials.
        tracker: writes to MLflow.
        views: the views of the session.
        troubles: receives the errors of steps.
        look: fetches and answers requests.
        hurry: leave out everything that a resume does later.
    """
    driver.is_done = True
    with ExitStack() as steps:
        steps.callback(tracker.close, HURRY_S if hurry else PATIENCE_S)
        steps.callback(driver.journal.close)
        steps.callback(write_last_event, driver)
        if not hurry:  # a resume writes and answers them all
            steps.callback(look)
            steps.callback(lambda: troubles.extend(views.keep()))
            steps.callback(
                write_or_report, troubles, "the study for Optuna", partial(save_study, driver)
            )


def write_last_event(driver: Driver) -> None:
    """Write the outcome of the search to the journal.

    Without this event, because no disk takes it, the search counts as cut off, which is true as
    well.
    """
    with suppress(JournalError):
        driver.finish()


def save_study(driver: Driver) -> None:
    """Save the study of the algorithm, if it has one, with the search."""
    home = driver.experiment.home
    driver.policy.save(home.folder)
    if not driver.journal.other_driver():
        home.keep(STUDY)


def write_or_report(troubles: list[str], title: str, write: Callable[[], None]) -> None:
    """Write what the journal can restore; a failure is only a trouble."""
    try:
        write()
    except (OSError, Unwritten) as error:
        troubles.append(f"{title} could not be written ({error}). The journal has everything.")


def report_troubles(troubles: list[str], experiment: Experiment, tracker: Tracker) -> None:
    """Print the troubles; events that MLflow did not take are one more."""
    if tracker.error:
        remedy = (
            f"Nothing is lost: {experiment.home}/{FILE_NAME} has it all. "
            f"Later: {Remedy('sync', experiment.name, experiment.storage)}"
        )
        troubles.append(f"MLflow did not take everything ({tracker.error}). {remedy}")
    for trouble in troubles:
        sys.stderr.write(error_line(trouble))


def went_well(result: SearchResult, troubles: list[str]) -> bool:
    """True if nobody will look for a reason in the logs of an executor."""
    return not troubles and result.outcome != "lost" and not result.unevaluated.keys() - {NO_TIME}


def outcome_of(
    experiment: Experiment,
    result: SearchResult,
    tracker: Tracker,
    code: int,
    began: CommandStart | None = None,
) -> Finished:
    """The outcome of a search.

    `code` is the exit code; `began` is when its session began, None if there was no session.
    """
    where = {
        "tracking_uri": redact(experiment.tracking),
        "experiment_id": tracker.experiment_id,
        "parent_run_id": tracker.parent_run_id,
    }
    after_s = 0.0  # the last event, which is as far as the journal knows
    if began is not None and result.current_sessions is result.sessions:
        after_s = max(0.0, began.ago_s - result.current_sessions[-1].elapsed_ms / 1000)
    return Finished(experiment, result, where, code, result.wall_s + after_s)


def show_outcome(views: OpenViews, finished: Finished) -> Finished:
    """Have the views show the result, and return it; its exit code tells if one could not."""
    lines = views.render(finished)
    for line in lines:
        sys.stderr.write(error_line(line))
    return (
        replace(finished, exit_code=finished.exit_code or ExitCode.NOT_READY) if lines else finished
    )


def exit_code(result: SearchResult, signals: list[int], troubles: list[str]) -> int:
    """The exit code of the process (`ExitCode`)."""
    if signals or result.outcome == "interrupted":
        return 128 + (signals[0] if signals else signal.SIGINT)
    if result.passed_over or (result.outcome in ENDED and not result.is_tested):
        return ExitCode.REFUSED
    if troubles:
        return ExitCode.NOT_READY
    if result.outcome in ENDED and is_answer_at_chance(result):
        return ExitCode.AT_CHANCE
    return ExitCode.SOME_FAILED if result.failed or result.best is None else 0
