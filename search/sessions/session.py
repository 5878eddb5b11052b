"""The composition root: what happens in a search, from top to bottom."""

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from uuid import uuid4

from rich.console import Console

from cluster.runtime.session import LOCAL
from search.decisions.driver import Driver
from search.decisions.earlier_searches import Earlier
from search.decisions.policy import MakePolicy
from search.decisions.search_policy import SearchPolicy
from search.design.budget import Budget
from search.design.commands import verb
from search.design.experiment import Experiment
from search.journal.events import Evidence, Selecting, SessionStart, Started
from search.journal.journal import FILE_NAME, VERSION, Unwritten
from search.journal.lease import FILE_NAME as LOCK_FILE
from search.journal.lease import boot_id
from search.journal.provenance import provenance
from search.journal.requests import Inbox, asked_before
from search.journal.result import (
    DATA_PICTURE,
    DATA_REPORT,
    SearchResult,
)
from search.journal.store import evidence
from search.preflight.prepare import Prepared, data_facts, prepare, refuse_taken, session_facts
from search.process.lifetime import CommandStart, command_start
from search.process.signals import raise_pending_signal, stop
from search.process.versions import check_versions
from search.sessions.ending import (
    ExitCode,
    closed_by_its_end,
    ended,
    exit_code,
    interruptible,
    rendered,
    tell_troubles,
    tried,
    went_well,
    wind_up,
)
from search.sessions.executor import Executor, begin_of
from search.sessions.phases import search_through
from search.spaces.find import sha256_of
from search.tracking.runs import new_title
from search.tracking.tracker import Tracker
from search.tracking.uri import check_tracking
from search.values.executors import EXECUTORS
from search.values.wording import cut_off_text
from search.views.base import Finished, Shown
from search.views.opened import OpenViews
from search.views.terminal import Terminal, say
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError, counted
from trainables.inspection.pictures import picture
from trainables.inspection.words import headline


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

    def onwards(self, experiment: Experiment) -> str:
        """Return the command that goes on with such a session once it was broken off."""
        return verb("select" if self.is_selection else "resume", experiment)

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
        with views, interruptible(driver, note, plan.onwards(experiment)) as signals:
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
            wind_up(
                driver,
                running.tracker,
                running.views,
                running.troubles,
                look=running.look,
                hurry=bool(signals),
            )


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
