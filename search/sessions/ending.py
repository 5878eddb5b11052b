"""The end of a session: signals, what is still written, the result and the exit code."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

from cluster.cli import NOT_READY, REFUSED, error_line
from cluster.errors import NotReady, Refused
from cluster.secrets import redact
from search.decisions.driver import Driver
from search.design.commands import verb
from search.design.experiment import Experiment
from search.journal.guessing import is_answer_at_chance
from search.journal.journal import FILE_NAME, JournalError, Unwritten
from search.journal.result import (
    ENDED,
    NO_TIME,
    STUDY,
    SearchResult,
)
from search.process.exit_codes import AT_CHANCE, SOME_FAILED
from search.process.lifetime import CommandStart
from search.tracking.tracker import PATIENCE_S, Tracker
from search.views.base import Finished
from search.views.opened import OpenViews

ExitCode = Callable[[SearchResult, list[int], list[str]], int]
"""Gives the exit code for a result, the signals that came and the troubles that were reported."""
TERM_GRACE_S = 12
"""After SIGTERM, the seconds in which trials may finish their epoch."""
HURRY_S = 5.0
"""Seconds that a search that was interrupted waits for MLflow."""


@contextmanager
def interruptible(driver: Driver, note: Callable[[str], None], go_on: str) -> Iterator[list[int]]:
    """Let a first Ctrl-C or SIGTERM stop each trial after its epoch, and a second one break off.

    Once the trials are over, the first one breaks off their evaluation.

    After SIGTERM the search also breaks off when `TERM_GRACE_S` is over: the sender kills soon
    after. Yields the signals that came; `note` prints a line, `go_on` is the command that goes on.
    """
    came: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGALRM:
            came.append(number)
        if number == signal.SIGALRM or len(came) > 1:
            signal.alarm(0)
            return driver.journal.break_off()
        driver.close("interrupted", f"stopped by {signal.Signals(number).name}")
        if number == signal.SIGTERM:  # until now an alarm is somebody else's
            before[signal.SIGALRM] = signal.signal(signal.SIGALRM, handle)
            signal.alarm(TERM_GRACE_S)
        note(stopping_text(driver, go_on))

    before: dict[int, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, handle)
    try:
        yield came
    finally:
        if signal.SIGALRM in before:
            signal.alarm(0)
        for changed, handler in before.items():
            signal.signal(changed, handler)


def stopping_text(driver: Driver, go_on: str) -> str:
    """Return what a first Ctrl-C or SIGTERM leads to now; `go_on` is the command that goes on."""
    if driver.is_done:
        return f"stopping once what is known is written (Ctrl-C again breaks off). Later: {go_on}"
    if driver.has_trained:
        return (
            "stopping: the evaluation is broken off; all trainings, and what was measured of them, "
            f"are kept. To go on: {go_on}"
        )
    return (
        "stopping: each trial finishes its epoch (Ctrl-C again breaks off); "
        "a resume goes on from there"
    )


@contextmanager
def closed_by_its_end(driver: Driver, troubles: list[str]) -> Iterator[None]:
    """Close the search with whatever ends it early; keep as a trouble what the user can mend."""
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
    """Write what views keep and the study, then the last line, and wait for MLflow to have it all.

    What was asked for until then is answered. A step that fails does not keep the others from being
    done.
    """
    driver.is_done = True
    with ExitStack() as steps:
        steps.callback(tracker.close, HURRY_S if hurry else PATIENCE_S)
        steps.callback(driver.journal.close)
        steps.callback(write_last_line, driver)
        if not hurry:  # a resume writes and answers them all
            steps.callback(look)
            steps.callback(lambda: troubles.extend(views.keep()))
            steps.callback(tried, troubles, "the study for Optuna", partial(save_study, driver))


def write_last_line(driver: Driver) -> None:
    """Journal the search's own outcome.

    Without that line, because no disk takes it, the search counts as cut off, which is true as
    well.
    """
    with suppress(JournalError):
        driver.finish()


def save_study(driver: Driver) -> None:
    """Save what the algorithm has to save, where the search is kept."""
    home = driver.experiment.home
    driver.policy.save(home.folder)
    if not driver.journal.other():
        home.keep(STUDY)


def tried(troubles: list[str], what: str, write: Callable[[], None]) -> None:
    """Write something that can be made again from the journal; a failure is only a trouble."""
    try:
        write()
    except (OSError, Unwritten) as error:
        troubles.append(f"{what} could not be written ({error}). The journal has everything.")


def tell_troubles(troubles: list[str], experiment: Experiment, tracker: Tracker) -> None:
    """Print what went wrong; what MLflow did not take is one more trouble."""
    if tracker.error:
        remedy = (
            f"Nothing is lost: {experiment.home}/{FILE_NAME} has it all. "
            f"Later: {verb('sync', experiment)}"
        )
        troubles.append(f"MLflow did not take everything ({tracker.error}). {remedy}")
    for trouble in troubles:
        sys.stderr.write(error_line(trouble))


def went_well(result: SearchResult, troubles: list[str]) -> bool:
    """Return whether nobody will look for a reason in an executor's logs."""
    return not troubles and result.outcome != "lost" and not result.unevaluated.keys() - {NO_TIME}


def ended(
    experiment: Experiment,
    result: SearchResult,
    tracker: Tracker,
    signals: list[int],
    troubles: list[str],
    code: ExitCode,
    began: CommandStart | None = None,
) -> Finished:
    """Return the outcome of a search.

    `began` is when its session began; None if there was no session.
    """
    where = {
        "tracking_uri": redact(experiment.tracking),
        "experiment_id": tracker.experiment_id,
        "parent_run_id": tracker.parent_run_id,
    }
    after_s = 0.0  # the last event, which is as far as the journal knows
    if began is not None and result.now is result.sessions:
        after_s = max(0.0, began.ago_s - result.now[-1].elapsed_ms / 1000)
    return Finished(
        experiment, result, where, code(result, signals, troubles), result.wall_s + after_s
    )


def rendered(views: OpenViews, finished: Finished) -> Finished:
    """Have the views show the result, and return it; its exit code tells if one could not."""
    lines = views.render(finished)
    for line in lines:
        sys.stderr.write(error_line(line))
    return replace(finished, exit_code=finished.exit_code or NOT_READY) if lines else finished


def exit_code(result: SearchResult, signals: list[int], troubles: list[str]) -> int:
    """Return the exit code of the process (`process.exit_codes`)."""
    if signals or result.outcome == "interrupted":
        return 128 + (signals[0] if signals else signal.SIGINT)
    if result.passed_over or (result.outcome in ENDED and not result.is_tested):
        return REFUSED
    if troubles:
        return NOT_READY
    if result.outcome in ENDED and is_answer_at_chance(result):
        return AT_CHANCE
    return SOME_FAILED if result.failed or result.best is None else 0
