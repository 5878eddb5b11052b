"""The composition root: what happens in a search, from top to bottom."""

import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Protocol
from uuid import uuid4

from rich.console import Console

from cluster.cli import NOT_READY, REFUSED, error_line
from cluster.errors import NotReady, Refused
from cluster.runtime.session import LOCAL
from cluster.secrets import redact
from search.decisions.driver import Driver
from search.decisions.earlier_searches import Earlier
from search.decisions.policy import MakePolicy
from search.decisions.search_policy import SearchPolicy
from search.design.budget import Budget
from search.design.experiment import Experiment
from search.execution.evaluation import Crew, Tick, evaluate_best, evaluate_trials
from search.execution.packing import Packing
from search.journal.events import Evidence, Selecting, SessionStart, Started
from search.journal.guessing import is_answer_at_chance
from search.journal.journal import FILE_NAME, VERSION, JournalError, Unwritten
from search.journal.keeping import ALL, NEEDED, by_kind, freed, goes_at_once, removable, remove
from search.journal.lease import FILE_NAME as LOCK_FILE
from search.journal.lease import boot_id
from search.journal.provenance import provenance
from search.journal.requests import Inbox, asked_before
from search.journal.result import (
    DATA_PICTURE,
    DATA_REPORT,
    ENDED,
    NO_TIME,
    STUDY,
    SearchResult,
)
from search.journal.store import evidence
from search.preflight.prepare import Prepared, data_facts, prepare, refuse_taken, session_facts
from search.process.exit_codes import AT_CHANCE, SOME_FAILED
from search.process.lifetime import CommandStart, command_start
from search.process.signals import raise_pending_signal, stop
from search.process.versions import check_versions
from search.spaces.find import sha256_of
from search.tracking.runs import new_title
from search.tracking.tracker import PATIENCE_S, Tracker
from search.tracking.uri import check_tracking
from search.values.executors import EXECUTORS
from search.values.message import Remedy
from search.values.wording import cut_off_text
from search.views.base import Finished, Shown
from search.views.opened import OpenViews
from search.views.terminal import Terminal, say
from trainables.catalog.entries import imported
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError, counted
from trainables.inspection.pictures import picture
from trainables.inspection.words import headline
from trainables.memory import size_text

ExitCode = Callable[[SearchResult, list[int], list[str]], int]
"""Gives the exit code for a result, the signals that came and the troubles that were reported."""
TERM_GRACE_S = 12
"""After SIGTERM, the seconds in which trials may finish their epoch."""
HURRY_S = 5.0
"""Seconds that a search that was interrupted waits for MLflow."""


def run(experiment: Experiment, *, as_json: bool = False) -> Finished:
    """Run a search to its end, and print what was found, as JSON too where that is wanted.

    Raises:
        ConfigError, NotReady, Unavailable: as `prepare`, before anything starts.
        Held: somebody else is starting a search of this name.
    """
    began = command_start()
    refuse_taken(experiment)
    prepared = prepare(experiment)
    console = Terminal(stderr=True)
    for line in (headline(prepared.report), *prepared.notes):
        say(console, line)
    experiment = prepared.experiment
    if (limit := experiment.budget.time) is not None and began.ago_s > limit.amount:
        raise ConfigError(
            f"--budget {limit}: {began.ago_s:.0f} s have passed "
            "before anything is started. Use more."
        )
    bounds = in_folds(experiment.base) + within(experiment.budget)
    opening = first_line(
        experiment,
        f"{counted(experiment.planned_trials, 'trial')} of up to "
        f"{counted(experiment.horizon, 'epoch')}{bounds}",
    )
    return run_session(
        prepared,
        console,
        began,
        opening,
        SessionPlan("search.run", started(experiment, prepared.dataset), as_json=as_json),
    )


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
        """Return a tick that also does what the executor has to do several times a second."""

    def train(self, driver: Driver, *, tick: Tick) -> None:
        """Train the driver's trials, and tell it of each report and failure, until it has no more.

        Raises:
            NotReady: nothing can be trained any more; what was done is in the journal.
        """

    def close(self) -> None:
        """Let go of what has trained and evaluated."""


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
        """Begin; the time that is only waited is told to `prepared.waiting`.

        Args:
            prepared: the search, and its data.
            planned: the largest number of trainings.
            provenance: the facts of `search.journal.provenance`.
            say: prints a line.
            went_well: returns, at the end, whether nobody will look for a reason in logs.

        Raises:
            NotReady: what it needs is not there.
        """


def search_through(
    driver: Driver, dataset: Dataset, executor: Executor, *, by: str, tick: Tick
) -> None:
    """Run a search: its trials, the evaluation of each, and the best one's test."""
    ticked = dropping_failed(driver, tick)
    executor.train(driver, tick=ticked)
    driver.look()
    while not (driver.over or driver.active):  # somebody asked for more at the last moment
        executor.train(driver, tick=ticked)
        driver.look()
    driver.settle()
    driver.has_trained = True
    evaluate_trials(driver, executor.crew, slots=driver.slots, tick=tick)
    evaluate_best(driver, dataset, executor.crew, by=by, tick=tick)
    drop_unneeded(driver)


def dropping_failed(driver: Driver, tick: Tick) -> Tick:
    """Return a tick that also removes the checkpoints of trials that have failed for good.

    What cannot be removed now is tried again at the search's end.
    """
    experiment, journal = driver.experiment, driver.journal
    if experiment.keep == ALL or not goes_at_once(experiment.space):
        return tick
    known = set[str]()

    def ticked() -> None:
        tick()
        failed = {trial.trial for trial in driver.result.failed} - known
        known.update(failed)
        if not failed:
            return
        with suppress(OSError):
            if found := removable(driver.result, experiment.home, NEEDED, among=failed):
                journal.append(freed(found, NEEDED))
                remove(experiment.home, found)

    return ticked


def drop_unneeded(driver: Driver) -> None:
    """Remove the checkpoints that nothing of the search needs any more, and say so.

    What cannot be removed now is left for `search.clean`.
    """
    home, journal = driver.experiment.home, driver.journal
    if driver.experiment.keep == ALL or driver.interrupted:
        return
    try:
        if not (found := removable(driver.result, home, NEEDED)):
            return
        journal.append(freed(found, NEEDED))
        remove(home, found)
    except OSError as error:
        later = Remedy("clean", driver.experiment.name, driver.experiment.storage)
        journal.complain(
            "note: checkpoints of stopped trials could not be removed "
            f"({error.strerror or error}). Later: {later}"
        )
        return
    kinds = by_kind(found)
    titles = " and ".join(kind.counted(count) for kind, (count, _) in kinds.items())
    journal.complain(
        f"note: the checkpoints of {titles} were removed "
        f"({size_text(sum(size for _, size in kinds.values()))}); --keep all keeps them"
    )


@dataclass(frozen=True)
class SessionPlan:
    """The plan of a session, from its first event on.

    A session is a search from its beginning, a search from where it was cut off, or a selection.
    """

    verb: str
    first: SessionStart
    """Its first event, with what only such a session's has."""
    planned: int | None = None
    """The largest number of trainings; None: as many as the experiment has trials."""
    policy: MakePolicy = SearchPolicy
    go_through: Callable[..., None] = search_through
    exit_code: ExitCode | None = None
    takes_over: bool = True
    """True if its trials may warm-start from what earlier searches have trained."""
    as_json: bool = False
    """True if its result is printed as JSON too."""
    advises: bool = True
    """True if its last lines say what may be done next (`Shown.advises`)."""
    evidence: Mapping[str, bytes] = field(default_factory=dict)
    """Files that are kept with the search from its beginning, by name."""

    @property
    def is_selection(self) -> bool:
        """True if it chooses among the trials of a search that has ended."""
        return isinstance(self.first, Selecting)

    @property
    def is_first(self) -> bool:
        """True if the journal begins with this session."""
        return isinstance(self.first, Started)

    def onwards(self, experiment: Experiment) -> Remedy:
        """Return the command that goes on with such a session once it was broken off."""
        return Remedy(
            "select" if self.is_selection else "resume", experiment.name, experiment.storage
        )

    def shown(self, console: Console) -> Shown:
        """Return what is shown of it where nothing is left to do."""
        return Shown(console, self.is_selection, self.as_json, advises=self.advises)


@dataclass(frozen=True)
class Running:
    """The parts of a session whose executor has begun."""

    plan: SessionPlan
    driver: Driver
    executor: Executor
    views: OpenViews
    tracker: Tracker
    troubles: list[str]
    inbox: Inbox

    def tick(self) -> None:
        """Show what is due, and take up what was asked for."""
        self.views.tick()
        self.take_up()

    def look(self) -> None:
        """Take up what was asked for until now."""
        self.inbox.look()
        self.take_up()

    def take_up(self) -> None:
        """Take up the requests that were fetched."""
        while (asked := self.inbox.next()) is not None:
            if self.driver.take_up(asked, waited=self.inbox.was_before(asked.id)):
                self.inbox.answered(asked.id)


def run_session(
    prepared: Prepared, console: Console, began: CommandStart, opening: str, plan: SessionPlan
) -> Finished:
    """Have a search's trials trained, tested and recorded, as the plan says.

    `began` is when the command began, `opening` the first line that it prints.
    """
    experiment, waiting, note = prepared.experiment, prepared.waiting, partial(say, console)
    folder, troubles = experiment.folder, list[str]()
    planned = plan.planned or experiment.planned_trials
    earlier = earlier_trainings(prepared, plan)
    before = asked_before(experiment.home)  # once the lease is taken, this session is asked
    with (
        waiting.entering(experiment.home.lease(say=note)) as lease,
        clean_if_unused(folder),
        said(console, opening),
        Inbox(experiment.home, say=note, before=before) as inbox,
        begin_of(experiment)(
            prepared,
            planned,
            origin := provenance(),
            say=note,
            went_well=lambda: went_well(driver.result, troubles),
        ) as executor,
    ):
        experiment = executor.experiment
        journal, events = experiment.home.journal(new=plan.is_first)
        journal.other = lease.other
        if journal.cut_off:
            note(cut_off_text(journal.cut_off))
        driver = Driver(
            experiment,
            journal,
            plan.policy,
            slots=executor.at_once,
            earlier=earlier.told(fused=executor.packing.members > 1, say=note),
            ago_s=began.ago_s,
            start_s=max(0.0, began.ago_s - waiting.seconds),
        )
        driver.replay(events)
        shown = replace(plan.shown(console), driver=driver, planned=planned)
        views = OpenViews(replace(shown, may_draw=executor.shows_table))
        journal.complain = note
        tracker = Tracker(experiment.tracking, folder, say=note, until=lambda: journal.size)
        journal.listeners += [tracker, views.apply]
        running = Running(plan, driver, executor, views, tracker, troubles, inbox)
        driver.room, driver.look = executor.room, running.look
        about = session_of(began, str(lease.mine), origin, earlier.training)
        with views, interruptible(driver, note, str(plan.onwards(experiment))) as signals:
            raise_pending_signal()
            write_first_event(running, prepared, about, signals)
            if not {DATA_REPORT, DATA_PICTURE} <= set(evidence(events)):
                keep = partial(keep_files, driver, prepared, plan.evidence)
                tried(troubles, "the report on the data", keep)
            carry_out(running, prepared.dataset, signals)
        # Here, not later: an executor that broke may end this process as it is left.
        tell_troubles(troubles, experiment, tracker)
    code = plan.exit_code or exit_code
    finished = ended(driver.experiment, driver.result, tracker, signals, troubles, code, began)
    return rendered(views, finished)


def earlier_trainings(prepared: Prepared, plan: SessionPlan) -> Earlier:
    """Begin to read what earlier searches have trained, where the plan may take it over."""
    experiment = prepared.experiment
    wanted = experiment.cache and plan.takes_over and experiment.address == LOCAL
    return Earlier(experiment, prepared.dataset, wanted=wanted)


def session_of(
    began: CommandStart, driver: str, origin: dict[str, str], training: str
) -> SessionStart:
    """Return what a session's first event says of its driver, named by its lease, and its clock."""
    return SessionStart(
        provenance=origin,
        training=training,
        began_ms=began.time_ms,
        driver=driver,
        boot=boot_id(),
        zero_ms=round(1000 * began.clock_s),
    )


def write_first_event(
    running: Running, prepared: Prepared, about: SessionStart, signals: list[int]
) -> None:
    """Journal the session's first event; `about` is what it says of the session itself.

    End the process if a signal breaks that off.
    """
    executor = running.executor
    facts = replace(
        session_facts(executor.experiment, prepared),
        slots=executor.at_once,
        packing=executor.packing.describe(),
    )
    try:
        running.driver.journal.append(running.plan.first.changed_by(facts).changed_by(about))
    except (KeyboardInterrupt, Unwritten):
        stop(signals[0] if signals else signal.SIGINT, None)


def keep_files(driver: Driver, prepared: Prepared, more: Mapping[str, bytes]) -> None:
    """Keep the report on the data, and more files, with the search, for its page and for MLflow."""
    report = prepared.report
    for name, content in (
        (DATA_REPORT, json.dumps(report.to_json(), indent=1).encode()),
        (DATA_PICTURE, picture(report, prepared.looked)),
        *more.items(),
    ):
        driver.experiment.home.write(name, content)
        driver.journal.append(Evidence("", name, ""))


def carry_out(running: Running, dataset: Dataset, signals: list[int]) -> None:
    """Go through the search as planned, and wind it up however that ends."""
    plan, driver, executor = running.plan, running.driver, running.executor
    with suppress(OSError):  # then whoever asks makes it
        driver.experiment.home.open_for_requests()
    try:
        with closed_by_its_end(driver, running.troubles):
            driver.go_on()
            running.take_up()
            tick = executor.ticking(driver, running.tick)
            plan.go_through(driver, dataset, executor, by=plan.verb, tick=tick)
    finally:
        if signal.SIGTERM in signals:
            signal.alarm(0)
        executor.close()
        driver.journal.patient = not signals
        with suppress(KeyboardInterrupt):
            wind_up(running, hurry=bool(signals))


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


def begin_of(experiment: Experiment) -> Begin:
    """Return the function with which a search's executor begins, imported now."""
    found: Begin = imported(EXECUTORS[experiment.executor].begin)
    return found


def went_well(result: SearchResult, troubles: list[str]) -> bool:
    """Return whether nobody will look for a reason in an executor's logs."""
    return not troubles and result.outcome != "lost" and not result.unevaluated.keys() - {NO_TIME}


@contextmanager
def said(console: Console, line: str) -> Iterator[None]:
    """Print this line before anything else within."""
    say(console, line)
    yield


def record(
    experiment: Experiment, result: SearchResult, plan: SessionPlan, opening: str
) -> Finished:
    """See that MLflow has all of a search, or a selection, that is over; print what was found.

    `plan` is that of the session which nothing is left for; `opening` says so, once nobody else can
    have the search.
    """
    check_versions()
    check_tracking(experiment.tracking)
    with experiment.home.lease(), said(Terminal(stderr=True), opening):
        tracker = Tracker(experiment.tracking, experiment.home.opened(files=True))
        tracker.close()
    troubles = list[str]()
    tell_troubles(troubles, experiment, tracker)
    finished = ended(experiment, result, tracker, [], troubles, plan.exit_code or exit_code)
    with OpenViews(plan.shown(Terminal(stderr=True))) as views:
        pass  # no event follows
    return rendered(views, finished)


def tell_troubles(troubles: list[str], experiment: Experiment, tracker: Tracker) -> None:
    """Print what went wrong; what MLflow did not take is one more trouble."""
    if tracker.error:
        remedy = (
            f"Nothing is lost: {experiment.home}/{FILE_NAME} has it all. "
            f"Later: {Remedy('sync', experiment.name, experiment.storage)}"
        )
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


def write_last_line(driver: Driver) -> None:
    """Journal the search's own outcome.

    Without that line, because no disk takes it, the search counts as cut off, which is true as
    well.
    """
    with suppress(JournalError):
        driver.finish()


def wind_up(running: Running, *, hurry: bool) -> None:
    """Write what views keep and the study, then the last line, and wait for MLflow to have it all.

    What was asked for until then is answered. A step that fails does not keep the others from being
    done.
    """
    driver, troubles = running.driver, running.troubles
    driver.is_done = True
    with ExitStack() as steps:
        steps.callback(running.tracker.close, HURRY_S if hurry else PATIENCE_S)
        steps.callback(driver.journal.close)
        steps.callback(write_last_line, driver)
        if not hurry:  # a resume writes and answers them all
            steps.callback(running.look)
            steps.callback(lambda: troubles.extend(running.views.keep()))
            steps.callback(tried, troubles, "the study for Optuna", partial(save_study, driver))


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


def started(experiment: Experiment, dataset: Dataset) -> Started:
    """Return a search's first event, with what no later one tells."""
    facts = data_facts(experiment, dataset)
    title = new_title(experiment.space_name, facts, experiment.base.to_dict())
    return Started(
        version=VERSION,
        name=experiment.name,
        id=uuid4().hex[:12],
        mlflow_experiment=title,
        space_sha256=sha256_of(experiment.space_source),
    )


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


def first_line(experiment: Experiment, what: str) -> str:
    """Return the first line of a session, printed once nobody else can have the search."""
    return (
        f"{experiment.name}: {what}, in {experiment.home}; {EXECUTORS[experiment.executor].starts}"
    )


def in_folds(config: TrialConfig) -> str:
    """Return what to say of a search that cross-validates; nothing of another."""
    return f" in each of {config.data.folds} folds" if config.data.folds else ""


def within(budget: Budget) -> str:
    """Return what to say of a search that has a budget; nothing of another."""
    return f", within {' and '.join(map(str, budget.limits))}" if budget.limits else ""


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
