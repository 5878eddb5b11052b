"""A session of a search, from the lease of its driver to its outcome."""

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
from search.decisions.timing import evaluation_epochs
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
    """The input of a session: the prepared search, the plan, and the start of the command."""

    prepared: Prepared
    plan: SessionPlan
    console: Terminal
    began: CommandStart
    opening: str
    """The first line, which is printed once the lease is acquired."""

    @property
    def planned(self) -> int:
        """The maximum number of trainings."""
        return self.plan.planned or self.prepared.experiment.planned_trials

    def note(self, line: str) -> None:
        """Print a line on the console of the session."""
        say(self.console, line)


@dataclass(frozen=True)
class RunningSession:
    """The parts of a session whose executor has started."""

    launch: Launch
    driver: Driver
    executor: Executor
    views: OpenViews
    tracker: Tracker
    inbox: Inbox
    start: SessionStart
    """The fields of the session's first event about its driver and its clock."""
    has_data_report: bool
    """True if an earlier session has stored the report on the data."""
    troubles: list[str] = field(default_factory=list)
    """Errors that are reported at the end of the session."""

    def tick(self) -> None:
        """Update the views, and answer the requests that were fetched."""
        self.views.tick()
        self.answer_requests()

    def look(self) -> None:
        """Fetch new requests, and answer them."""
        self.inbox.look()
        self.answer_requests()

    def answer_requests(self) -> None:
        """Answer the requests that were fetched."""
        while (request := self.inbox.next()) is not None:
            is_answered = self.driver.take_up(request, waited=self.inbox.is_from_before(request.id))
            self.driver.journal.commit()
            if is_answered:
                self.inbox.mark_answered(request.id)

    def outcome(self, signals: list[int]) -> Finished:
        """Build the outcome after all parts have ended; `signals` are the received signals."""
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
    """Train, evaluate and record the trials of a search according to a plan.

    Args:
        prepared: the experiment, whose data, disk and memory have been checked.
        console: where lines are printed.
        began: the time at which the command was started.
        opening: the first line to print, once the lease is acquired.
        plan: what distinguishes a search, a refinement and a selection.

    Raises:
        LeaseHeld: another driver runs the search.
        NotReady: the executor cannot start.
    """
    launch = Launch(prepared, plan, console, began, opening)
    with open_session(launch) as session:
        command = str(plan.continuing_command(session.driver.experiment))
        with session.views, interruptible(session.driver, launch.note, command) as signals:
            raise_pending_signal()
            write_first_event(session, signals)
            store_data_report(session)
            carry_out(session, signals)
        # Report before the end of the context, which may end this process if the executor failed.
        report_troubles(session.troubles, session.driver.experiment, session.tracker)
    return show_outcome(session.views, session.outcome(signals))


@contextmanager
def open_session(launch: Launch) -> Iterator[RunningSession]:
    """Acquire the lease of a search, start its executor, and connect the parts of a session."""
    prepared, waiting = launch.prepared, launch.prepared.waiting
    experiment = prepared.experiment
    session: RunningSession | None = None
    earlier = find_earlier_trainings(prepared, launch.plan)
    # List the requests before acquiring the lease: those sent later are meant for this session.
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
    """Open the journal, and connect the driver with the views, MLflow and the inbox.

    Args:
        launch: the input of the session.
        executor: the executor, which has started.
        lease: the lease of the search.
        inbox: receives requests to the driver.
        earlier: the trainings of earlier searches.
        origin: the facts of `search.journal.provenance`.
    """
    experiment, plan, began = executor.experiment, launch.plan, launch.began
    dataset = launch.prepared.dataset
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
    targets = experiment.base.task.load_targets()
    driver.timing.evaluation_epochs = evaluation_epochs(
        dataset.least_trained * targets.samples_per_image(dataset),
        (len(dataset.val) + len(dataset.test or ())) * targets.inputs_per_image(dataset),
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
    """Start reading the trainings of earlier searches, if the session may reuse them.

    The session may not reuse them on a cluster, or if the experiment or the plan forbids it.
    """
    experiment = prepared.experiment
    is_enabled = experiment.cache and plan.reuses_trainings and experiment.address == LOCAL
    return EarlierSearches(experiment, prepared.dataset, is_enabled=is_enabled)


def session_start(
    began: CommandStart, driver: str, origin: dict[str, str], training: str
) -> SessionStart:
    """Return the fields of a session's first event about its driver and its clock.

    Args:
        began: the start of the command.
        driver: the name of the driver, from its lease.
        origin: the facts of `search.journal.provenance`.
        training: the fingerprint of the trainings, `EarlierSearches.training`.
    """
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

    If a signal interrupts the write, the process ends.
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
    """Store the report on the data and the plan's files with the search.

    The search's page and MLflow show them. Nothing is written if an earlier session has stored the
    report. An error is added to the session's troubles.
    """
    if not session.has_data_report:
        write = partial(write_data_report, session)
        write_or_report(session.troubles, "the report on the data", write)


def write_data_report(session: RunningSession) -> None:
    """Write the report on the data and the plan's files, and an event for each file."""
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
    """Run the phases of the plan; in the end, also after an error, wind up the session."""
    launch, driver, executor = session.launch, session.driver, session.executor
    with suppress(OSError):  # if this fails, the first request creates the folder
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
    """Print a line on entry; a context manager, so that a `with` statement can list it."""
    say(console, line)
    yield


@contextmanager
def clean_if_unused(folder: Path) -> Iterator[None]:
    """Remove the folder of a search on exit if its journal is missing or empty."""
    try:
        yield
    finally:
        with suppress(OSError):
            if not (folder / FILE_NAME).exists() or not (folder / FILE_NAME).stat().st_size:
                (folder / FILE_NAME).unlink(missing_ok=True)
                (folder / LOCK_FILE).unlink(missing_ok=True)
                folder.rmdir()


def opening_line(experiment: Experiment, subject: str) -> str:
    """Compose the first line of a session; `subject` describes the amount of training."""
    return (
        f"{experiment.name}: {subject}, in {experiment.home}; "
        f"{EXECUTORS[experiment.executor].starts}"
    )


def record_outcome(
    experiment: Experiment, result: SearchResult, plan: SessionPlan, opening: str
) -> Finished:
    """Complete MLflow's record of a finished search or selection, and print its result.

    Args:
        experiment: the search.
        result: its result.
        plan: the plan of the session that has nothing left to do.
        opening: the first line to print, once the lease is acquired.

    Raises:
        LeaseHeld: another driver runs the search.
        ConfigError, NotReady: as in `check_versions` and `check_tracking`.
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
