"""A session: one run of a search's driver, from its lease to its outcome."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from cluster.runtime.session import LOCAL
from cluster.signals import raise_pending_signal, stop
from search.decisions.driver import Driver
from search.decisions.earlier_searches import EarlierSearches
from search.design.experiment import Experiment
from search.journal.bucket_lease import BucketLease
from search.journal.events import Evidence, SessionStart
from search.journal.journal import FILE_NAME, Unwritten
from search.journal.lease import FILE_NAME as LOCK_FILE
from search.journal.lease import Lease, boot_id
from search.journal.provenance import provenance
from search.journal.requests import Inbox, waiting_request_ids
from search.journal.result import DATA_PICTURE, DATA_REPORT, SearchResult
from search.journal.store import evidence_files
from search.preflight.prepare import Prepared, session_facts
from search.process.lifetime import CommandStart
from search.process.versions import check_versions
from search.sessions.ending import (
    closing_early,
    interruptible,
    outcome_of,
    report_troubles,
    show_outcome,
    went_well,
    wind_up,
    write_or_report,
)
from search.sessions.executor import Executor, load_begin
from search.sessions.plan import SessionPlan
from search.tracking.tracker import Tracker
from search.tracking.uri import check_tracking
from search.values.executors import EXECUTORS
from search.values.wording import cut_off_text
from search.views.base import Finished
from search.views.opened import OpenViews
from search.views.terminal import Terminal, say
from trainables.inspection.pictures import picture


@dataclass(frozen=True)
class Launch:
    """The input of a session: a prepared search, the plan, and the command that it belongs to."""

    prepared: Prepared
    plan: SessionPlan
    console: Terminal
    began: CommandStart
    opening: str
    """The first line that is printed once nobody else can have the search."""

    @property
    def planned(self) -> int:
        """The largest number of trainings."""
        return self.plan.planned or self.prepared.experiment.planned_trials

    def note(self, line: str) -> None:
        """Print a line."""
        say(self.console, line)


@dataclass(frozen=True)
class RunningSession:
    """The parts of a session whose executor has begun."""

    launch: Launch
    driver: Driver
    executor: Executor
    views: OpenViews
    tracker: Tracker
    inbox: Inbox
    start: SessionStart
    """The fields of the session's first event on its driver and its clock."""
    has_data_report: bool
    """True if an earlier session has stored the report on the data."""
    troubles: list[str] = field(default_factory=list)
    """Errors that do not end the session; they are reported at its end."""

    def tick(self) -> None:
        """Show what is due, and answer the requests that were fetched."""
        self.views.tick()
        self.answer_requests()

    def look(self) -> None:
        """Fetch the requests that have come until now, and answer them."""
        self.inbox.look()
        self.answer_requests()

    def answer_requests(self) -> None:
        """Answer the requests that were fetched."""
        while (request := self.inbox.next()) is not None:
            if self.driver.take_up(request, waited=self.inbox.is_from_before(request.id)):
                self.inbox.mark_answered(request.id)

    def outcome(self, signals: list[int]) -> Finished:
        """The outcome after all parts have ended; `signals` are those that came."""
        return outcome_of(
            self.driver.experiment,
            self.driver.result,
            self.tracker,
            self.launch.plan.exit_code(self.driver.result, signals, self.troubles),
            self.launch.began,
        )


def run_session(
    prepared: Prepared, console: Terminal, began: CommandStart, opening: str, plan: SessionPlan
) -> Finished:
    """Train, evaluate and record the trials of a search, as the plan says.

    `began` is the start of the command, `opening` the first line that it prints.
    """
    launch = Launch(prepared, plan, console, began, opening)
    with open_session(launch) as session:
        command = str(plan.continuing_command(session.driver.experiment))
        with session.views, interruptible(session.driver, launch.note, command) as signals:
            raise_pending_signal()
            write_first_event(session, signals)
            store_data_report(session)
            carry_out(session, signals)
        # Here, not later: an executor that broke may end this process as it is left.
        report_troubles(session.troubles, session.driver.experiment, session.tracker)
    return show_outcome(session.views, session.outcome(signals))


@contextmanager
def open_session(launch: Launch) -> Iterator[RunningSession]:
    """Acquire the lease of a search, begin its executor, and connect the parts of a session."""
    prepared, waiting = launch.prepared, launch.prepared.waiting
    experiment = prepared.experiment
    session: RunningSession | None = None
    earlier = find_earlier_trainings(prepared, launch.plan)
    # Before the lease is acquired: from then on, requests are meant for this session.
    earlier_ids = waiting_request_ids(experiment.home)
    with (
        waiting.entering(experiment.home.lease(say=launch.note)) as lease,
        clean_if_unused(experiment.folder),
        announcing(launch.console, launch.opening),
        Inbox(experiment.home, say=launch.note, earlier_ids=earlier_ids) as inbox,
        load_begin(experiment)(
            prepared,
            launch.planned,
            origin := provenance(),
            say=launch.note,
            went_well=lambda: (
                session is not None and went_well(session.driver.result, session.troubles)
            ),
        ) as executor,
    ):
        session = connect(launch, executor, lease, inbox, earlier, origin)
        yield session


def connect(
    launch: Launch,
    executor: Executor,
    lease: Lease | BucketLease,
    inbox: Inbox,
    earlier: EarlierSearches,
    origin: dict[str, str],
) -> RunningSession:
    """Open the journal, and connect the driver with the views, MLflow and requests.

    Args:
        launch: the input of the session.
        executor: the executor that has begun.
        lease: the lease of the search.
        inbox: receives requests to the driver.
        earlier: the trainings of earlier searches.
        origin: the facts of `search.journal.provenance`.
    """
    experiment, plan, began = executor.experiment, launch.plan, launch.began
    journal, events = experiment.home.journal(new=plan.is_first)
    journal.other_driver = lease.other_driver
    if journal.cut_off:
        launch.note(cut_off_text(journal.cut_off))
    driver = Driver(
        experiment,
        journal,
        plan.policy,
        slots=executor.at_once,
        earlier=earlier.with_fusion(fused=executor.packing.members > 1, say=launch.note),
        ago_s=began.ago_s,
        start_s=max(0.0, began.ago_s - launch.prepared.waiting.seconds),
    )
    driver.replay(events)
    context = replace(plan.view_context(launch.console), driver=driver, planned=launch.planned)
    views = OpenViews(replace(context, may_draw=executor.shows_table))
    journal.complain = launch.note
    folder = launch.prepared.experiment.folder
    tracker = Tracker(experiment.tracking, folder, say=launch.note, until=lambda: journal.size)
    journal.listeners += [tracker, views.apply]
    start = session_start(began, str(lease.mine), origin, earlier.training)
    has_data_report = {DATA_REPORT, DATA_PICTURE} <= set(evidence_files(events))
    session = RunningSession(
        launch, driver, executor, views, tracker, inbox, start, has_data_report=has_data_report
    )
    driver.room, driver.look = executor.room, session.look
    return session


def find_earlier_trainings(prepared: Prepared, plan: SessionPlan) -> EarlierSearches:
    """Start to read the trainings of earlier searches, if the plan may reuse them."""
    experiment = prepared.experiment
    is_enabled = experiment.cache and plan.reuses_trainings and experiment.address == LOCAL
    return EarlierSearches(experiment, prepared.dataset, is_enabled=is_enabled)


def session_start(
    began: CommandStart, driver: str, origin: dict[str, str], training: str
) -> SessionStart:
    """The fields of a session's first event on its driver, named by its lease, and its clock."""
    return SessionStart(
        provenance=origin,
        training=training,
        began_ms=began.time_ms,
        driver=driver,
        boot=boot_id(),
        zero_ms=round(1000 * began.clock_s),
    )


def write_first_event(session: RunningSession, signals: list[int]) -> None:
    """Write the first event of a session to the journal.

    A signal that interrupts it ends the process.
    """
    executor, plan = session.executor, session.launch.plan
    facts = replace(
        session_facts(executor.experiment, session.launch.prepared),
        slots=executor.at_once,
        packing=executor.packing.describe(),
    )
    try:
        first_event = plan.first_event.changed_by(facts).changed_by(session.start)
        session.driver.journal.append(first_event)
    except (KeyboardInterrupt, Unwritten):
        stop(signals[0] if signals else signal.SIGINT, None)


def store_data_report(session: RunningSession) -> None:
    """Store the report on the data, and the plan's files, with the search, unless it has them.

    Its page and MLflow show them. A failure is only a trouble.
    """
    if not session.has_data_report:
        write = partial(write_data_report, session)
        write_or_report(session.troubles, "the report on the data", write)


def write_data_report(session: RunningSession) -> None:
    """Write the report on the data and the plan's files, and their events."""
    driver, prepared = session.driver, session.launch.prepared
    report = prepared.report
    for name, content in (
        (DATA_REPORT, json.dumps(report.to_json(), indent=1).encode()),
        (DATA_PICTURE, picture(report, prepared.inspection)),
        *session.launch.plan.evidence.items(),
    ):
        driver.experiment.home.write(name, content)
        driver.journal.append(Evidence("", name, ""))


def carry_out(session: RunningSession, signals: list[int]) -> None:
    """Run the phases of the plan, and wind the session up however they end."""
    launch, driver, executor = session.launch, session.driver, session.executor
    with suppress(OSError):  # then the first request creates the folder
        driver.experiment.home.open_for_requests()
    try:
        with closing_early(driver, session.troubles):
            driver.go_on()
            session.answer_requests()
            tick = executor.ticking(driver, session.tick)
            launch.plan.phases(
                driver, launch.prepared.dataset, executor, by=launch.plan.verb, tick=tick
            )
    finally:
        if signal.SIGTERM in signals:
            signal.alarm(0)
        executor.close()
        driver.journal.patient = not signals
        with suppress(KeyboardInterrupt):
            wind_up(
                driver,
                session.tracker,
                session.views,
                session.troubles,
                look=session.look,
                hurry=bool(signals),
            )


@contextmanager
def announcing(console: Terminal, line: str) -> Iterator[None]:
    """Print this line before anything else within."""
    say(console, line)
    yield


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


def opening_line(experiment: Experiment, subject: str) -> str:
    """The first line of a session; `subject` says how much it will train."""
    return (
        f"{experiment.name}: {subject}, in {experiment.home}; "
        f"{EXECUTORS[experiment.executor].starts}"
    )


def record_outcome(
    experiment: Experiment, result: SearchResult, plan: SessionPlan, opening: str
) -> Finished:
    """Complete MLflow's record of a search, or a selection, that is over, and print its result.

    `plan` is that of the session for which nothing is left; `opening` says so, once nobody else can
    have the search.
    """
    check_versions()
    check_tracking(experiment.tracking)
    with experiment.home.lease(), announcing(Terminal(stderr=True), opening):
        tracker = Tracker(experiment.tracking, experiment.home.opened(files=True))
        tracker.close()
    troubles = list[str]()
    report_troubles(troubles, experiment, tracker)
    finished = outcome_of(experiment, result, tracker, plan.exit_code(result, [], troubles))
    with OpenViews(plan.view_context(Terminal(stderr=True))) as views:
        pass  # no event follows
    return show_outcome(views, finished)
