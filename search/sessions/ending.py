"""The end of a session: signals, the last files and events, the result and the exit code."""

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
"""A function of (result, received signals, reported errors) that returns the exit code."""
TERM_GRACE_S = 12
"""Seconds after SIGTERM that trials have to finish their epoch."""
HURRY_S = 5.0
"""The maximum number of seconds that an interrupted search waits for MLflow."""


@contextmanager
def interruptible(driver: Driver, note: Callable[[str], None], command: str) -> Iterator[list[int]]:
    """Handle Ctrl-C and SIGTERM: the first signal stops trials after their epoch, the next aborts.

    If all trials have finished, the first signal stops their evaluation. After SIGTERM, the search
    also aborts after `TERM_GRACE_S` seconds, since the sender usually kills the process soon after.

    Args:
        driver: the driver of the search.
        note: prints a line about the effect of the first signal.
        command: the command that continues the search, which the line contains.

    Yields:
        A list of the signals received so far, to which later signals are appended.
    """
    signals: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGALRM:
            signals.append(number)
        if number == signal.SIGALRM or len(signals) > 1:
            signal.alarm(0)
            return driver.journal.break_off()
        driver.close("interrupted", f"stopped by {signal.Signals(number).name}")
        if number == signal.SIGTERM:  # until now, other code may have used alarms
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
    """Describe the effect of the first Ctrl-C or SIGTERM; `command` continues the search."""
    if driver.is_done:
        return (
            "stopping after all results are written (press Ctrl-C again to stop at once). To "
            f"continue later: {command}"
        )
    if driver.has_trained:
        return (
            "stopping: the evaluation is interrupted; all trainings and their evaluations so far "
            f"are kept. To continue: {command}"
        )
    return (
        "stopping: each trial finishes its current epoch (press Ctrl-C again to stop at once); "
        "a resume continues from there"
    )


@contextmanager
def closing_early(driver: Driver, troubles: list[str]) -> Iterator[None]:
    """Close the driver if an error ends the search early.

    `NotReady` and `Refused`, which the user can resolve, are added to `troubles`. All errors except
    `Refused` close the driver. `NotReady`, `Refused`, `Unwritten` and KeyboardInterrupt are not
    raised again; all other errors are.
    """
    try:
        yield
    except (KeyboardInterrupt, Unwritten):
        driver.close("interrupted", "interrupted")
    except Refused as error:
        troubles.append(str(error))
    except NotReady as error:
        troubles.append(str(error))
        driver.close("lost", str(error))
    except BaseException:
        driver.close("lost", "the search failed with an error")
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
    """Write the study, the files of views and the last event, and wait for MLflow.

    New requests are answered before the last event. If a step fails, the remaining ones still run.

    Args:
        driver: the driver, which suggests no more trials.
        tracker: writes to MLflow.
        views: the views of the session.
        troubles: receives the errors of steps.
        look: fetches and answers requests.
        hurry: True to skip the steps that a resume repeats.
    """
    driver.is_done = True
    # On exit, an `ExitStack` runs its steps in reverse order, also after one has failed.
    with ExitStack() as steps:
        steps.callback(tracker.close, HURRY_S if hurry else PATIENCE_S)
        steps.callback(driver.journal.close)
        steps.callback(write_last_event, driver)
        if not hurry:  # a resume repeats these steps
            steps.callback(look)
            steps.callback(lambda: troubles.extend(views.keep()))
            steps.callback(
                write_or_report, troubles, "the study for Optuna", partial(save_study, driver)
            )


def write_last_event(driver: Driver) -> None:
    """Write the outcome of the search to the journal.

    If writing fails, the error is ignored: without this event, the search correctly counts as cut
    off.
    """
    with suppress(JournalError):
        driver.finish()


def save_study(driver: Driver) -> None:
    """Save the study of the algorithm in the folder of the search, and in its storage.

    The study is not copied to the storage if another driver has taken over the search.
    """
    home = driver.experiment.home
    driver.policy.save(home.folder)
    if not driver.journal.other_driver():
        home.keep(STUDY)


def write_or_report(troubles: list[str], title: str, write: Callable[[], None]) -> None:
    """Call `write` for a file that can be restored from the journal.

    An error is added to `troubles`, with `title` as the name of the file.
    """
    try:
        write()
    except (OSError, Unwritten) as error:
        troubles.append(f"{title} could not be written ({error}). All results are in the journal.")


def report_troubles(troubles: list[str], experiment: Experiment, tracker: Tracker) -> None:
    """Print the errors of a session, and another one if MLflow has not received all events."""
    if tracker.error:
        remedy = (
            f"Nothing is lost: {experiment.home}/{FILE_NAME} contains everything. To write it to "
            f"MLflow later: {Remedy('sync', experiment.name, experiment.storage)}"
        )
        troubles.append(f"MLflow did not accept all results ({tracker.error}). {remedy}")
    for trouble in troubles:
        sys.stderr.write(error_line(trouble))


def went_well(result: SearchResult, troubles: list[str]) -> bool:
    """True if no error occurred, so that nobody needs the logs of the executor."""
    return not troubles and result.outcome != "lost" and not result.unevaluated.keys() - {NO_TIME}


def outcome_of(
    experiment: Experiment,
    result: SearchResult,
    tracker: Tracker,
    code: int,
    began: CommandStart | None = None,
) -> Finished:
    """Build the outcome of a session for the views.

    Args:
        experiment: the search.
        result: its result.
        tracker: has written the result to MLflow.
        code: the exit code.
        began: the start of the session's command; None if there was no session.
    """
    where = {
        "tracking_uri": redact(experiment.tracking),
        "experiment_id": tracker.experiment_id,
        "parent_run_id": tracker.parent_run_id,
    }
    after_s = 0.0  # the time after the last event, which the journal does not contain
    if began is not None and result.current_sessions is result.sessions:
        after_s = max(0.0, began.ago_s - result.current_sessions[-1].elapsed_ms / 1000)
    return Finished(experiment, result, where, code, result.wall_s + after_s)


def show_outcome(views: OpenViews, finished: Finished) -> Finished:
    """Let the views show the outcome, and return it.

    If a view fails, its error is printed, and an exit code of 0 becomes `NOT_READY`.
    """
    lines = views.render(finished)
    for line in lines:
        sys.stderr.write(error_line(line))
    return (
        replace(finished, exit_code=finished.exit_code or ExitCode.NOT_READY) if lines else finished
    )


def exit_code(result: SearchResult, signals: list[int], troubles: list[str]) -> int:
    """Return the exit code of a search.

    It is 128 plus the signal if the search was interrupted, else 0 or a value of `ExitCode`.
    """
    if signals or result.outcome == "interrupted":
        return 128 + (signals[0] if signals else signal.SIGINT)
    if result.passed_over or (result.outcome in ENDED and not result.is_tested):
        return ExitCode.REFUSED
    if troubles:
        return ExitCode.NOT_READY
    if result.outcome in ENDED and is_answer_at_chance(result):
        return ExitCode.AT_CHANCE
    return ExitCode.SOME_FAILED if result.failed or result.best is None else 0
