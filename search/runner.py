"""The composition root: what happens in a search, from top to bottom."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING
from uuid import uuid4

from rich.console import Console

from cluster.cli import NOT_READY, REFUSED, error_line
from cluster.errors import NotReady, Refused
from cluster.runtime.resources import Machines
from cluster.runtime.session import LOCAL, session
from cluster.secrets import masked
from search.budget import Budget
from search.cli.main import SOME_FAILED, began_ms, check_versions, heed_signals, stop
from search.decisions.driver import Driver
from search.decisions.earlier_searches import Earlier
from search.decisions.timing import Waiting
from search.execution.capacity import limited
from search.experiment import Experiment
from search.journal.journal import FILE_NAME, VERSION, Journal, JournalError, Unwritten
from search.journal.lease import FILE_NAME as LOCK_FILE
from search.journal.provenance import provenance
from search.journal.result import ENDED, NO_TIME, STUDY, SearchResult
from search.phrases import verb
from search.preflight.prepare import Prepared, data_facts, prepare, refuse_taken, session_facts
from search.spaces.find import sha256_of
from search.tracking.runs import TITLE, new_title
from search.tracking.tracker import PATIENCE_S, Tracker
from search.tracking.uri import check_tracking
from search.views.live import Display
from search.views.page.drawing import DrawingAside, importing
from search.views.terminal import Terminal, say
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError

if TYPE_CHECKING:
    from search.execution.pool import Workers

ExitCode = Callable[[SearchResult, list[int], list[str]], int]
"""Of a result, the signals that came and the troubles that were told."""
TERM_GRACE_S = 12
"""After SIGTERM, the seconds in which trials may finish their epoch."""
HURRY_S = 5.0
"""How long a search that was interrupted waits for MLflow."""


@dataclass(frozen=True)
class Finished:
    """A search that came to its end: what was searched, its result, where MLflow has it, the exit
    code that tells the truth, and the seconds that all of its sessions took, with what followed the
    journal's last event.
    """

    experiment: Experiment
    result: SearchResult
    tracking: dict[str, str]
    exit_code: int
    wall_s: float


def run(experiment: Experiment) -> Finished:
    """Run a search to its end.

    Raises:
        ConfigError, NotReady, Unavailable: as `prepare`, before anything starts.
        Held: somebody else is starting a search of this name.
    """
    began = began_ms()
    refuse_taken(experiment)
    prepared = prepare(experiment)
    console = Terminal(stderr=True)
    for line in prepared.notes:
        say(console, line)
    experiment = prepared.experiment
    if (limit := experiment.budget.time) is not None and now_ms() - began > limit.amount * 1000:
        raise ConfigError(
            f"--budget {limit}: {(now_ms() - began) / 1000:.0f} s have passed before anything is started. Use more."
        )
    bounds = in_folds(experiment.base) + within(experiment.budget)
    opening = first_line(
        experiment,
        f"{experiment.planned_trials} trials of up to {experiment.horizon} epochs{bounds}",
    )
    return run_session(
        prepared,
        console,
        began,
        opening,
        SessionPlan("search.run", "started", first_facts(experiment, prepared.dataset)),
    )


def search_through(
    driver: Driver,
    dataset: Dataset,
    workers: "Workers",
    *,
    by: str,
    slots: int,
    tick: Callable[[], None],
) -> None:
    """A search: its trials, what each of them is worth, and the best one's test."""
    from search.execution.evaluation import (
        evaluate_best,
        evaluate_trials,
    )  # Ray and Tune are imported once nothing can be refused any more
    from search.execution.tune import tune_search

    tune_search(driver, workers, slots=slots, tick=tick)
    driver.settle()
    evaluate_trials(driver, workers, slots=driver.slots, tick=tick)
    evaluate_best(driver, dataset, workers, by=by, tick=tick)


@dataclass(frozen=True)
class SessionPlan:
    """What a session does, from its first event on: a search from its beginning or from where it
    was cut off, or a selection.
    """

    verb: str
    opens: str
    """The kind of its first event, with these `facts` beside those of every session."""
    facts: dict[str, object]
    planned: int | None = None
    """How many trainings there will be at most; None: as many as the experiment has trials."""
    driver: Callable[..., Driver] = Driver
    display: type[Display] = Display
    go_through: Callable[..., None] = search_through
    exit_code: ExitCode | None = None
    takes_over: bool = True
    """Whether its trials may begin with what earlier searches have trained."""

    @property
    def is_first(self) -> bool:
        """Whether the journal begins with it."""
        return self.opens == "started"


def run_session(
    prepared: Prepared, console: Console, began: int, opening: str, act: SessionPlan
) -> Finished:
    """Have a search's trials trained, tested and recorded, as the act says. `began` is when the
    command did (`cli.began_ms`), `opening` its first line.
    """
    experiment, dataset, waiting = prepared.experiment, prepared.dataset, prepared.waiting
    folder, troubles, planned = (
        experiment.folder,
        list[str](),
        act.planned or experiment.planned_trials,
    )
    earlier = Earlier(
        experiment,
        dataset,
        wanted=experiment.cache and act.takes_over and experiment.address == LOCAL,
    )
    with (
        waiting.entering(experiment.home.lease(say=partial(say, console))) as lease,
        clean_if_unused(folder),
        said(console, opening),
        ray_session(prepared, tidy=lambda: went_well(driver.result, troubles)) as have,
        waiting.entering(limited(experiment, have, planned, say=partial(say, console))) as limit,
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(
            nowhere
        ),  # where Ray tells, in paragraphs, of each process that died; the journal has why
    ):
        from search.execution.packing import staff
        from search.execution.pool import Workers

        experiment = limit.experiment  # whose device the cluster may have decided
        origin = provenance()
        workers = Workers(experiment, dataset, origin)
        with waiting.counted():
            at_once, packing = staff(experiment, workers, limit, say=partial(say, console))
        journal, events = experiment.home.journal(new=act.is_first)
        journal.other = lease.other
        tell_cut_off(journal, console)
        driver = act.driver(experiment, journal, slots=at_once, **ages(began, waiting))
        driver.relatives.earlier = earlier.told(
            fused=packing.members > 1, say=partial(say, console)
        )
        driver.replay(events)
        display = act.display(
            driver.result, planned, console, may_train=lambda: driver.outstanding > 0
        )
        journal.complain = display.say
        tracker = Tracker(experiment.tracking, folder, say=display.say, until=lambda: journal.size)
        journal.listeners += [tracker, display, drawing := DrawingAside(driver)]
        with display, interruptible(driver, display) as signals:
            heed_signals()
            told = {
                "slots": at_once,
                "packing": packing.describe(),
                "provenance": origin,
                "began_ms": began,
            }
            try:
                journal.append(
                    act.opens,
                    **session_facts(experiment, prepared),
                    **told,
                    training=earlier.training,
                    **act.facts,
                )
            except (KeyboardInterrupt, Unwritten):
                stop(signals[0], None)
            try:
                with closed_by_its_end(driver, troubles):
                    driver.go_on()
                    tick = importing(driver, limit.ticking(driver, workers, display.tick))
                    act.go_through(
                        driver,
                        dataset,
                        workers,
                        by=act.verb,
                        slots=limit.at_most(at_once),
                        tick=tick,
                    )
            finally:
                signal.alarm(0)
                workers.close()
                journal.patient = not signals
                with suppress(KeyboardInterrupt):
                    wind_up(driver, tracker, troubles, drawing, hurry=bool(signals))
        tell_troubles(
            troubles, experiment, tracker
        )  # here: Ray, where it died, may end this process as it is left
    return ended(
        experiment, driver.result, tracker, signals, troubles, act.exit_code or exit_code, began
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


def ray_session(
    prepared: Prepared, *, tidy: Callable[[], bool]
) -> AbstractContextManager[Machines]:
    """The session that a search asks for; `tidy` says at its end whether Ray's logs are removed."""
    experiment = prepared.experiment
    return session(
        experiment.address,
        local=prepared.local,
        dashboard=experiment.demand.workers > 1,
        meanwhile=import_tune,
        tidy=tidy,
    )


def went_well(result: SearchResult, troubles: list[str]) -> bool:
    """Whether nobody will look for a reason in Ray's logs."""
    return not troubles and result.outcome != "lost" and not result.unevaluated.keys() - {NO_TIME}


def ages(began: int, waiting: Waiting) -> dict[str, float]:
    """How long ago the command began, and how long of that it did not wait, as a driver takes both."""
    ago_s = (now_ms() - began) / 1000
    return {"ago_s": ago_s, "start_s": max(0.0, ago_s - waiting.seconds)}


def tell_cut_off(journal: Journal, console: Console) -> None:
    """Say that the journal's last line was half-written, if it was."""
    if size := journal.cut_off:
        say(
            console,
            f"note: the journal's last line was half-written ({size} bytes); it was cut off. What it told had not been acted on.",
        )


@contextmanager
def said(console: Console, line: str) -> Iterator[None]:
    """Say this first."""
    say(console, line)
    yield


def import_tune() -> None:
    """Half of this second is over while Ray's processes start."""
    import search.execution.tune  # noqa: F401


def record(experiment: Experiment, result: SearchResult, code: ExitCode | None = None) -> Finished:
    """Of a search, or a selection, that is over: see that MLflow has all of it."""
    check_versions()
    check_tracking(experiment.tracking)
    with experiment.home.lease():
        tracker = Tracker(experiment.tracking, experiment.home.opened(files=True))
        tracker.close()
    troubles = list[str]()
    tell_troubles(troubles, experiment, tracker)
    return ended(experiment, result, tracker, [], troubles, code or exit_code)


def tell_troubles(troubles: list[str], experiment: Experiment, tracker: Tracker) -> None:
    """Say where it went wrong; what MLflow did not take is one more trouble."""
    if tracker.error:
        remedy = f"Nothing is lost: {experiment.home}/{FILE_NAME} has it all. Later: {verb('sync', experiment)}"
        troubles.append(f"MLflow did not take everything ({tracker.error}). {remedy}")
    for trouble in troubles:
        sys.stderr.write(error_line(trouble))


def ended(
    experiment: Experiment,
    result: SearchResult,
    tracker: Tracker,
    signals: list[int],
    troubles: list[str],
    code: ExitCode,
    began: int | None = None,
) -> Finished:
    """What came of a search; of a session that `began` then, if there was one."""
    where = {
        "tracking_uri": masked(experiment.tracking),
        "experiment_id": tracker.experiment_id,
        "parent_run_id": tracker.parent_run_id,
    }
    is_searched = began is not None and result.now is result.sessions
    since_s = (now_ms() - result.now[-1].last_ms) / 1000 if is_searched else 0.0
    return Finished(
        experiment, result, where, code(result, signals, troubles), result.wall_s + since_s
    )


def write_last_line(driver: Driver) -> None:
    """The search's own outcome. Without it, for want of a disk that takes it, the search counts as
    cut off, which is true as well.
    """
    with suppress(JournalError):
        driver.finish()


def wind_up(
    driver: Driver, tracker: Tracker, troubles: list[str], drawing: DrawingAside, *, hurry: bool
) -> None:
    """Leave the evidence, write the last line, and wait for MLflow to have it all. A step that
    fails does not keep the others from being done.
    """
    from search.views.page.artifacts import draw  # matplotlib is not needed before

    home = driver.experiment.home
    with ExitStack() as steps:
        steps.callback(tracker.close, HURRY_S if hurry else PATIENCE_S)
        steps.callback(driver.journal.close)
        steps.callback(write_last_line, driver)
        if not hurry:  # a resume writes both
            steps.callback(
                tried,
                troubles,
                "the pictures",
                lambda: draw(
                    driver.result, home, driver.journal, few=driver.is_late, drawn=drawing.result()
                ),
            )
            steps.callback(tried, troubles, "the study for Optuna", partial(save_study, driver))


def save_study(driver: Driver) -> None:
    """What the algorithm has to save, where the search is kept."""
    home = driver.experiment.home
    driver.algorithm.save(home.folder)
    if not driver.journal.other():
        home.keep(STUDY)


def tried(troubles: list[str], what: str, write: Callable[[], None]) -> None:
    """Write something that can be made again from the journal."""
    try:
        write()
    except (OSError, Unwritten) as error:
        troubles.append(f"{what} could not be written ({error}). The journal has everything.")


@contextmanager
def clean_if_unused(folder: Path) -> Iterator[None]:
    """Leave no folder behind when the search could not begin."""
    try:
        yield
    finally:
        with suppress(OSError):
            if not (folder / FILE_NAME).exists() or not (folder / FILE_NAME).stat().st_size:
                (folder / FILE_NAME).unlink(missing_ok=True)
                (folder / LOCK_FILE).unlink(missing_ok=True)
                folder.rmdir()


def first_facts(experiment: Experiment, dataset: Dataset) -> dict[str, object]:
    """What it says once."""
    title = new_title(experiment.space_name, data_facts(experiment, dataset))
    known = {"version": VERSION, "name": experiment.name, "id": uuid4().hex[:12], TITLE: title}
    return {**known, "space_sha256": sha256_of(experiment.space_source)}


@contextmanager
def interruptible(driver: Driver, display: Display) -> Iterator[list[int]]:
    """A first Ctrl-C or SIGTERM lets each trial finish its epoch; a second one breaks off, and so
    does time, after SIGTERM: who sends it kills soon after. Yields the signals that came.
    """
    came: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGALRM:
            came.append(number)
        if number == signal.SIGALRM or len(came) > 1:
            signal.alarm(0)
            return driver.journal.break_off()
        driver.close("interrupted", f"stopped by {signal.Signals(number).name}")
        if number == signal.SIGTERM:
            signal.alarm(TERM_GRACE_S)
        display.say(
            "stopping: each trial finishes its epoch (Ctrl-C again breaks off); a resume goes on from there"
        )

    before = {
        number: signal.signal(number, handle)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    }
    try:
        yield came
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


def first_line(experiment: Experiment, what: str) -> str:
    """What a session says first, once nobody else has the search."""
    return f"{experiment.name}: {what}, in {experiment.home}; starting Ray"


def in_folds(config: TrialConfig) -> str:
    """What to say of a search that cross-validates; nothing of another."""
    return f" in each of {config.data.folds} folds" if config.data.folds else ""


def within(budget: Budget) -> str:
    """What to say of a search that has a budget; nothing of another."""
    return f", within {' and '.join(map(str, budget.limits))}" if budget.limits else ""


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def exit_code(result: SearchResult, signals: list[int], troubles: list[str]) -> int:
    """What the process says at its end (see `search.cli.main`)."""
    if signals:
        return 128 + signals[0]
    if result.passed_over or (result.outcome in ENDED and not result.is_tested):
        return REFUSED
    if troubles:
        return NOT_READY
    return SOME_FAILED if result.failed or result.best is None else 0
