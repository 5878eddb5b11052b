"""The result of a search, computed only from the events of its journal."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from search.journal.events import (
    Averaged,
    Concluded,
    Costed,
    Dropped,
    Ended,
    Epoch,
    Evaluated,
    EventData,
    Evidence,
    Finished,
    Freed,
    Held,
    Opened,
    Paused,
    Pooled,
    Promoted,
    Refined,
    RefinementTerms,
    Registration,
    Requested,
    Restored,
    Resumed,
    Retried,
    Risked,
    Running,
    Selected,
    Selecting,
    SessionStart,
    Settled,
    Slots,
    Started,
    Stopped,
    Stressed,
    Suggested,
    Tested,
    Unevaluated,
    Waiting,
)
from search.journal.journal import (
    FILE_NAME,
    DamagedJournal,
    Event,
    JournalError,
    events_of,
    without_garbage_collection,
)
from search.journal.lease import boot_id
from search.journal.requests import STOP
from search.journal.store import Home
from search.values.objectives import costs_of, measured_keys, need_costs
from search.values.statistics import error_of
from trainables.catalog.entries import Metric, TaskEntry
from trainables.config import training_key_of
from trainables.messages import Cost
from trainables.tasks import TASKS, task_name
from trainables.values import Json, Params

FAILED = ("diverged", "failed")
"""Outcomes of trials that are not ranked.

All other trials are ranked by their best epochs, even unfinished trials, since the values of all
trials are measured on the same images.
"""

UNFINISHED = ("pending", "running", "interrupted", "held")
"""Outcomes of trials that a resume continues."""

PICTURES, PAGE, STUDY = "pictures", "report.html", "optuna.log"
"""Names in the search's folder: the folder with the pictures of the whole search, the report page,
and Optuna's study. The pictures are written last.
"""
DATA_REPORT, DATA_PICTURE = "data.json", "data.png"
"""Names in the search's folder: the report on the data, and its picture."""
IMPROVEMENT = "improvement"
"""The name of the space in searches by `search.improve`."""

ENDED = ("completed", "budget", "gain", "stopped")
"""Outcomes of a search that has ended as intended.

In this order: all trials have ended, the budget is used up, further trials are not worthwhile, or a
request has stopped the search.
"""
OPEN = ("budget", "stopped")
"""The outcomes in `ENDED` that may leave trials unfinished."""

RENAMED = {"time_budget": "budget"}
"""The current names of outcomes, by their names in version 0.1."""

NO_TIME = "no time was left"
"""The reason why a trial was not evaluated if the time was used up; a resume with more time
evaluates it.
"""


@dataclass(frozen=True)
class InheritedEpochs:
    """The epochs that a trial has inherited, by a warm start, from another trial."""

    search: str
    trial: str
    epochs: list[int]


@dataclass
class TrialResult:
    """One trial, or one training of a selection, as the journal describes it."""

    trial: str
    params: Params
    config: Json
    """The trial's config. Parts of it are shared with other trials, so never modify it in place."""
    outcome: str = "pending"
    reason: str = ""
    kind: str = ""
    """The kind of failure, as in `Retried`; empty if the trial has not failed."""
    attempt: int = 0
    retries: list[str] = field(default_factory=list)
    """The kinds of the failures after which the trial was tried again."""
    stop: Stopped | None = None
    """The decision to stop the trial; None if there is none."""
    hold_reason: str = ""
    """The reason why the trial waits at a rung; empty if it does not wait."""
    wait_reason: str = ""
    """The reason why the trial cannot continue now, such as a full disk; empty if there is none."""
    epochs: dict[int, dict[str, float]] = field(default_factory=dict)
    folds: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    """With cross-validation: the metrics of each fold, by epoch."""
    costed: Cost = field(default_factory=Cost)
    """The cost of using its network, measured while other trials ran.

    Empty unless cost is an objective.
    """
    inherited: list[InheritedEpochs] = field(default_factory=list)
    """The epochs that the trial has inherited by warm starts, one entry per warm start."""
    trainings: set[str] = field(default_factory=set)
    """The fingerprints of the code, data and machine with which the trial was trained.

    There are several fingerprints if the code, data or machine changed between its attempts.
    """
    started_ms: int = 0
    ended_ms: int = 0
    repeat_of: str = ""
    """The candidate that is trained again, in a selection; otherwise empty."""
    members: list[str] = field(default_factory=list)
    """The trials of which it is an ensemble; empty for a single training."""
    training_key: str = ""
    """A key that is equal for trials that differ only in length, and thus share one training.

    See `trainables.config`.
    """
    precision: str = ""
    """The precision of the trial's last epoch: fp32, bf16 or fp16; empty if not known."""
    stop_request: Requested | None = None
    """The request to stop the trial; None if there is none."""
    is_freed: bool = False
    """True if the trial's checkpoints were removed, and the trial has not run since."""
    evaluated: Evaluated | None = None
    """The last evaluation on the validation set (see `evaluation`)."""
    stressed: dict[str, Stressed] = field(default_factory=dict)
    """The last evaluations on corrupted or attacked images, by name (see `robustness`)."""
    _best: tuple[int, int | None] = field(default=(-1, None), init=False, repr=False, compare=False)
    """The cache of `best_epoch`, which is read very often: (number of epochs, best epoch)."""

    @property
    def best_epoch(self) -> int | None:
        """The best epoch by the metric; None before the first epoch.

        Ties go to the epoch with the lowest validation loss, then to the earliest epoch.
        """
        if self._best[0] != len(self.epochs):
            metric = self.metric
            self._best = (
                len(self.epochs),
                max(
                    self.epochs,
                    key=lambda epoch: (*metric.rank(self.epochs[epoch]), -epoch),
                    default=None,
                ),
            )
        return self._best[1]

    @property
    def best(self) -> dict[str, float]:
        """The metrics of the best epoch; empty before the first epoch."""
        best_epoch = self.best_epoch
        return self.epochs[best_epoch] if best_epoch is not None else {}

    @property
    def metric(self) -> Metric:
        """The metric by which the trial's epochs are ranked."""
        return metric_of(self.config)

    @property
    def value(self) -> float:
        """The metric on the validation set at the best epoch; NaN before the first epoch."""
        return self.best.get(self.metric.key, math.nan)

    @property
    def score(self) -> float:
        """The value, negated if lower values are better, so that a higher score is better."""
        return self.metric.score(self.value)

    def error(self, images: int) -> float:
        """Return the standard error of the value, given the number of validation images."""
        return error_of(self.metric, self.best, images)

    @property
    def task(self) -> TaskEntry:
        """The task for which the trial was trained."""
        return task_of(self.config)

    @property
    def primary_value(self) -> float:
        """The task's primary metric at the best epoch, such as accuracy; NaN before any epoch.

        The best epoch is the best one by `metric`, which may differ from the primary metric.
        """
        return self.best.get(self.task.primary.key, math.nan)

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation of the metric over the folds, at the best epoch.

        None without cross-validation.
        """
        return self.best.get(self.metric.deviation_key)

    @property
    def evaluation(self) -> Evaluated | None:
        """The evaluation of the best epoch on the validation set; None if there is none yet."""
        last = self.evaluated
        return last if last is not None and last.epoch == self.best_epoch else None

    @property
    def robustness(self) -> dict[str, Json]:
        """The summaries of `--evaluate` for the best epoch, by the evaluation's name."""
        return {
            name: event.summary
            for name, event in self.stressed.items()
            if event.epoch == self.best_epoch
        }

    @property
    def cost(self) -> Cost:
        """The cost of using the trial's network, measured while nothing else ran.

        This is the result of `trainables.evaluation.cost`; empty if there is no evaluation yet.
        """
        return self.evaluation.cost if self.evaluation is not None else {}

    @property
    def reached(self) -> int:
        """The last epoch that the trial has finished; 0 before the first epoch."""
        return max(self.epochs, default=0)

    @property
    def train_s(self) -> float:
        """Seconds spent in training and validation steps, including those of inherited epochs."""
        return sum(metrics["time/epoch_s"] for metrics in self.epochs.values())

    @property
    def is_inheriting(self) -> bool:
        """True if some of the epochs that the trial inherits are not in the journal yet."""
        return bool(self.inherited) and max(self.inherited[-1].epochs, default=0) > max(
            self.epochs, default=0
        )

    @property
    def own_epochs(self) -> dict[int, dict[str, float]]:
        """The epochs that the trial has trained itself, without the inherited ones."""
        if not self.inherited:
            return self.epochs
        inherited = {epoch for source in self.inherited for epoch in source.epochs}
        return {epoch: metrics for epoch, metrics in self.epochs.items() if epoch not in inherited}


@dataclass
class Session:
    """A session: the time during which one driver runs the search."""

    began_ms: int
    """The Unix time in milliseconds at which the session's command started.

    `last_ms` is the Unix time of the session's last event. The difference is not the duration of
    the session, since the clock may have been set; use `elapsed_ms`.
    """
    last_ms: int
    slots: int
    """The number of trials that may run at once now."""
    members: int = 1
    """The number of trials that share a worker."""
    per_gpu: int = 1
    """The number of workers that share a GPU."""
    driver: str = ""
    """The process that runs the session; empty in journals of earlier versions."""
    boot: str = ""
    zero_ms: int = 0
    """The reading of the machine's monotonic clock when the session's command started, in ms.

    `boot` is the id of the machine (`search.journal.lease.boot_id`).
    """
    is_dated: bool = False
    """True if the session's events have dates, but no elapsed times, as in earlier versions.
    """
    running: int = 0
    """The number of trials that run now."""
    elapsed_ms: int = 0
    """The duration of the session so far in milliseconds, including the start of Ray.
    """
    slots_ms: int = 0
    """The total time of all slots in milliseconds, whether they were used or idle."""
    trials_ms: int = 0
    """The total running time of all trials in this session, in milliseconds."""
    epoch_ms: int = 0
    """The value of `elapsed_ms` when the last epoch was reported.

    `ended_ms` is the value of `elapsed_ms` when the last trial ended.
    """
    ended_ms: int = 0

    @classmethod
    def of(cls, data: SessionStart) -> Self:
        """Create the session that begins with this event."""
        return cls(
            data.began_ms,
            data.began_ms,
            data.slots,
            members=data.packing.get("members", 1),
            per_gpu=data.packing.get("per_gpu", 1),
            driver=data.driver,
            boot=data.boot,
            zero_ms=data.zero_ms,
        )

    def count_until(self, time_ms: int, elapsed_ms: int | None) -> None:
        """Count the time until an event with this date and this elapsed time, in milliseconds.

        Without an elapsed time, as in journals of earlier versions, the dates are used. A date
        before that of the last event is ignored, since the clock may have been set.
        """
        if elapsed_ms is None:
            self.is_dated = True
            elapsed_ms = self.elapsed_ms + max(0, time_ms - self.last_ms)
        self.last_ms = time_ms
        self.advance(elapsed_ms)

    def advance(self, elapsed_ms: int) -> None:
        """Count the time until `elapsed_ms`; do nothing if it has already been counted."""
        step = max(0, elapsed_ms - self.elapsed_ms)
        self.elapsed_ms += step
        self.slots_ms += step * self.slots
        self.trials_ms += step * self.running

    @property
    def now_ms(self) -> int:
        """The current `elapsed_ms` of a running session.

        On the session's own machine it is computed from the monotonic clock, on other machines from
        the date of the session's last event.
        """
        if self.boot == boot_id():
            return time.monotonic_ns() // 1_000_000 - self.zero_ms
        return self.elapsed_ms + time.time_ns() // 1_000_000 - self.last_ms

    @property
    def trials_s(self) -> float:
        """The total running time of all trials in this session, in seconds."""
        return self.trials_ms / 1000

    @property
    def slot_s(self) -> float:
        """The total time of all slots, in seconds, whether they were used or idle."""
        return self.slots_ms / 1000


def elapsed_s(sessions: Iterable[Session]) -> float:
    """Add up the durations of sessions, in seconds.

    A session lasts from the start of its command to its last event.
    """
    return sum(session.elapsed_ms for session in sessions) / 1000


def is_other_race(before: Selecting, now: Selecting) -> bool:
    """True if a selection continues on other terms: other candidates, seeds or error rate."""
    return (before.candidates, before.seeds, before.alpha) != (
        now.candidates,
        now.seeds,
        now.alpha,
    )


def moment(time_ms: int) -> str:
    """Format a Unix time in milliseconds, such as `2026-11-25 20:58 UTC`."""
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True)
class Opening:
    """One use of the test set."""

    time_ms: int
    by: str
    """The command: `search.run`, `search.resume`, `search.select` or `search.promote`."""
    trial: str
    promises: tuple[str, ...] = ()
    """The options of `search.promote` whose thresholds were chosen with the test set."""

    def __str__(self) -> str:
        """Format this use, such as `2026-11-25 20:58 UTC by search.run for t0007`."""
        return f"{moment(self.time_ms)} by {' '.join([self.by, *self.promises])} for {self.trial}"


@dataclass(frozen=True)
class DatedRegistration:
    """The registration of a trial's model, and its Unix time."""

    time_ms: int
    event: Registration

    def __str__(self) -> str:
        """Format this registration: `2026-11-25 20:58 UTC: t0007 as version 3 of flowers`."""
        event = self.event
        return f"{moment(self.time_ms)}: {event.trial} as version {event.version} of {event.model}"


@dataclass(frozen=True)
class AnsweredRequest:
    """An answered request, and the Unix time of the answer."""

    time_ms: int
    request: Requested


@dataclass
class Selection:
    """A selection: the best few trials, trained again with fresh seeds (`search.select`)."""

    started: Selecting
    """The first event of the selection's last session."""
    sessions: list[Session]
    repeats: dict[str, TrialResult] = field(default_factory=dict)
    """The trainings, by name, such as `t0007-s2`. Their `repeat_of` is the candidate."""
    dropped: dict[str, Dropped] = field(default_factory=dict)
    """The events with which candidates were dropped, by candidate."""
    verdict: Selected | None = None
    """The choice of the selection; None until it is made."""
    averaged: Averaged | None = None
    """The last averaging of a candidate's trainings; None if there was none."""
    average: TrialResult | None = None
    """The network of `averaged`, in the form of a training."""
    tested: Tested | None = None
    """The last evaluation of one of the trainings on the test set; None if there is none."""
    outcome: str = "running"
    reason: str = ""

    def begin_again(self, terms: Selecting) -> None:
        """Start another session on these terms, and readmit some of the dropped candidates.

        The `failed` candidates are readmitted. If the terms have changed, candidates that were
        clearly worse are readmitted, too, because they may not be clearly worse on the new terms.
        The failed or stopped trainings of readmitted candidates continue.
        """
        again = self.failed & set(terms.candidates)
        if is_other_race(self.started, terms):
            again |= {name for name, departure in self.dropped.items() if departure.p is not None}
        self.dropped = {
            name: departure for name, departure in self.dropped.items() if name not in again
        }
        for trial in self.repeats.values():
            if trial.repeat_of in again and trial.outcome in ("failed", "stopped"):
                trial.outcome, trial.reason, trial.kind = "interrupted", "", ""
                trial.stop, trial.retries, trial.ended_ms = None, [], 0

    @property
    def failed(self) -> set[str]:
        """The candidates that were dropped only because a training failed.

        The cause of such a failure may no longer exist. Candidates with a training that diverged
        are excluded, since it would diverge again.
        """
        failed, diverged = (
            {trial.repeat_of for trial in self.repeats.values() if trial.outcome == outcome}
            for outcome in ("failed", "diverged")
        )
        worse = {name for name, departure in self.dropped.items() if departure.p is not None}
        return failed - diverged - worse

    @property
    def chosen(self) -> TrialResult | None:
        """The training whose network was chosen; None before the verdict."""
        return self.trainings.get(self.verdict.trial) if self.verdict is not None else None

    @property
    def trainings(self) -> dict[str, TrialResult]:
        """The trainings and the average of some of them, by name."""
        average = self.average
        return self.repeats if average is None else {**self.repeats, average.trial: average}

    def add_average(self, averaged: Averaged, time_ms: int) -> None:
        """Record that the weights of some trainings were averaged."""
        self.averaged, name = averaged, averaged.trial
        self.average = TrialResult(
            name,
            averaged.params,
            averaged.config,
            outcome="completed",
            epochs={averaged.epoch: averaged.metrics},
            precision=averaged.precision,
            started_ms=time_ms,
            ended_ms=time_ms,
            repeat_of=averaged.candidate,
        )

    @property
    def current_average(self) -> Averaged | None:
        """The averaging of the trainings of the candidate in the verdict; None if there is none."""
        averaged, verdict = self.averaged, self.verdict
        if averaged is None or verdict is None or averaged.candidate != verdict.candidate:
            return None
        return averaged

    @property
    def is_average_chosen(self) -> bool:
        """True if the chosen network has the mean weights of several trainings."""
        return self.average is not None and self.chosen is self.average

    @property
    def is_tested(self) -> bool:
        """True if the chosen training has been evaluated on the test set."""
        return (
            self.verdict is not None
            and self.tested is not None
            and self.tested.trial == self.verdict.trial
        )

    @property
    def test(self) -> Json:
        """The chosen training's evaluation on the test set; empty if there is none yet."""
        return self.tested.test if self.tested is not None and self.is_tested else {}

    @property
    def train_s(self) -> float:
        """Seconds spent in training and validation steps."""
        return sum(trial.train_s for trial in self.repeats.values())


def _is_in_session(data: EventData) -> bool:
    """True for an event within a session, whose time counts; commands write some afterwards."""
    if isinstance(data, Opened):
        return data.is_in_session
    return not isinstance(data, SessionStart | Freed | Registration)


@dataclass
class Refinement:
    """The further rounds of a search (`search.refine`), each in a space derived from results."""

    terms: RefinementTerms
    rounds: list[Refined] = field(default_factory=list)
    reason: str = ""
    """The reason why the refinement ended; empty if it has not ended."""

    @property
    def is_over(self) -> bool:
        """True if there will be no further round."""
        return bool(self.reason)


@dataclass
class SearchResult:
    """A search and its trials, in the order of suggestion.

    It is built by `apply`, event by event.
    """

    name: str = ""
    started: Started = field(default_factory=Started)
    """The first event, with the changes that later sessions made."""
    sessions: list[Session] = field(default_factory=list)
    current_sessions: list[Session] = field(default_factory=list)
    """Either `sessions` or the sessions of the selection, whichever ran last.

    The next event belongs to the last session in this list.
    """
    trials: dict[str, TrialResult] = field(default_factory=dict)
    tested: Tested | None = None
    """The last evaluation of one of the trials on the test set; None if there is none."""
    openings: list[Opening] = field(default_factory=list)
    """Every use of the test set."""
    registrations: list[DatedRegistration] = field(default_factory=list)
    """The models that were registered, in order."""
    selection: Selection | None = None
    combined: Pooled | None = None
    """The last combination of trials to an ensemble; None if there was none."""
    ensembles: dict[str, TrialResult] = field(default_factory=dict)
    """The ensembles that were made, in the form of trials, by name."""
    is_ensemble_old: bool = False
    """True if a trial has finished an epoch after `combined`: others may be better now."""
    refinement: Refinement | None = None
    is_drawn: bool = False
    """True if the pictures and the best trial's evidence are in the search's folder."""
    unevaluated: dict[str, list[str]] = field(default_factory=dict)
    """The trials that the last session could not evaluate, by reason."""
    outcome: str = "running"
    reason: str = ""
    risk: Risked | None = None
    """The risk of not continuing waiting trials when the search ended; None if not known."""
    requests: dict[str, AnsweredRequest] = field(default_factory=dict)
    """The requests by id, in the order of their answers."""
    stopping: Requested | None = None
    """The request to stop the search; None if there is none, or once the search has stopped."""
    _state: int = field(default=0, init=False, repr=False, compare=False)
    """A number that increases whenever `apply` or `cut_off` changes something."""
    _computed: dict[str, tuple[tuple[int, int], list[TrialResult]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """The cache of `_compute_once`, by function name: ((state, number of trials), result)."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the result of the search in this folder, finished or not.

        Raises:
            JournalError: there is no search, or its journal is damaged.
        """
        with without_garbage_collection():
            return cls.of(events_of(folder / FILE_NAME), folder)

    @classmethod
    def kept_in(cls, home: Home) -> tuple[Self, str]:
        """Return the current result of a search and the name of the driver that runs it, or "".

        If a driver runs the search, the result includes the time since the last event. If none
        does, trials that were running are marked as interrupted.
        """
        result, holder = cls.read(home.opened()), home.holder()
        if holder:
            return result.until_now(holder), holder
        result.cut_off()
        return result, holder

    @classmethod
    def of(
        cls,
        events: Iterable[Event],
        folder: Path,
        *,
        after: Callable[[Self, Event], None] = lambda result, event: None,
    ) -> Self:
        """Compute the result from the events of a journal.

        Args:
            events: the events, from the first one on.
            folder: the folder of the search, for messages.
            after: called after each event, with the result until then.

        Raises:
            JournalError: the events do not contain the beginning of a search.
        """
        result = cls()
        for event in events:
            result.apply(event)
            after(result, event)
        if not result.sessions:
            if (folder / "trials").exists():
                raise DamagedJournal(
                    f"'{folder}' contains trials, but {FILE_NAME} is empty or does not contain the "
                    f"start of the search. Restore {FILE_NAME} from a backup."
                )
            raise JournalError(
                f"the search at '{folder}' was cut off before it recorded its start. Start it "
                "again under another name."
            )
        return result

    def apply(self, event: Event) -> None:
        """Update the result with the next event of the journal."""
        self._state += 1
        data = event.data
        if self.current_sessions and _is_in_session(data):
            self.current_sessions[-1].count_until(event.time_ms, event.elapsed_ms)
        self._apply(data, event.time_ms)
        if isinstance(data, SessionStart):
            self.current_sessions[-1].count_until(event.time_ms, event.elapsed_ms)
        elif isinstance(data, Epoch) and self.current_sessions:
            self.current_sessions[-1].epoch_ms = self.current_sessions[-1].elapsed_ms
        elif isinstance(data, Ended) and self.current_sessions:
            self.current_sessions[-1].ended_ms = self.current_sessions[-1].elapsed_ms

    def until_now(self, holder: str) -> Self:
        """Return a copy that includes the time since the last event, if `holder` runs the search.

        Return this object if the last session has ended: then the holder only waits for MLflow.
        Return it also if the holder is not the driver of that session: then the holder is about to
        start a session.

        Args:
            holder: the driver with the lease, as named by `Home.holder`; empty if there is none.
        """
        if not self.current_sessions or not holder or self._last_outcome != "running":
            return self
        # For a driver on another machine, the name is followed by ", if it is still alive".
        if holder.partition(",")[0] != self.current_sessions[-1].driver:
            return self
        session = replace(self.current_sessions[-1])
        session.advance(session.now_ms)
        extended = [*self.current_sessions[:-1], session]
        if self.current_sessions is self.sessions:
            current = replace(self, sessions=extended, current_sessions=extended)
        else:
            selection = self.selection and replace(self.selection, sessions=extended)
            current = replace(self, selection=selection, current_sessions=extended)
        # The trials are the same objects, so the cached ranking is valid for the copy, too.
        current._state, current._computed = self._state, self._computed
        return current

    def _apply(self, data: EventData, time_ms: int) -> None:
        match data:
            case Epoch() if (
                trial := self.find(data.trial)
            ) is not None:  # first, as most events are epochs
                self._apply_to(trial, data, time_ms)
            case Started():
                self.name, self.started = data.name, data
                self.current_sessions = self.sessions = [Session.of(data)]
            case Resumed():
                self._resume(data)
            case Slots() if self.current_sessions:
                self.current_sessions[-1].slots = data.count
            case Suggested():
                self._suggest(data)
            case Opened():
                self.openings.append(Opening(time_ms, data.by, data.trial, tuple(data.promises)))
            case Tested():
                self._test(data, time_ms)
            case Registration():
                self.registrations.append(DatedRegistration(time_ms, data))
            case Unevaluated() if self.current_sessions is self.sessions:
                self.unevaluated = data.reasons
            case Evidence() if data.file == PICTURES:
                self.is_drawn = True
            case Risked():
                self.risk = data
            case Freed():
                for freed_trial in filter(None, map(self.find, data.trials)):
                    freed_trial.is_freed = True
            case Requested():
                self._answer(data, time_ms)
            case Finished():
                self.outcome, self.reason = RENAMED.get(data.outcome, data.outcome), data.reason
                if self.outcome in ENDED:
                    self.stopping = None
                self.cut_off()
            case Refined() | Settled() if self.refinement is not None:
                self._refine(data, self.refinement)
            case Selecting():
                self._select(data)
            case Dropped() | Selected() | Concluded() if self.selection is not None:
                self._apply_to_selection(data, self.selection)
            case Averaged() if self.selection is not None:
                self.selection.add_average(data, time_ms)
            case Pooled():
                self._add_ensemble(data, time_ms)
            case _ if (trial := self.find(getattr(data, "trial", ""))) is not None:
                self._apply_to(trial, data, time_ms)

    def _apply_to(self, trial: TrialResult, data: EventData, time_ms: int) -> None:
        ran = trial.outcome == "running"
        if isinstance(data, Epoch) and not trial.repeat_of:
            self.is_ensemble_old = True
        if isinstance(data, Running):
            trial.trainings.add(self.training)
        _apply_to_trial(trial, data, time_ms)
        if self.current_sessions and ran != (trial.outcome == "running"):
            self.current_sessions[-1].running += -1 if ran else 1

    @property
    def training(self) -> str:
        """The fingerprint of everything that a training depends on now, except its config.

        Empty in journals of earlier versions.
        """
        return self.started.training

    def find(self, name: str) -> TrialResult | None:
        """Return the trial, ensemble, or training of the selection with this name, if any."""
        trainings = self.selection.trainings if self.selection is not None else {}
        return self.trials.get(name) or self.ensembles.get(name) or trainings.get(name)

    def _add_ensemble(self, combined: Pooled, time_ms: int) -> None:
        """Record that some trials were combined to an ensemble, or that this was made before."""
        self.combined, self.is_ensemble_old = combined, False
        if combined.trial not in self.ensembles:
            self.ensembles[combined.trial] = TrialResult(
                combined.trial,
                {},
                combined.config,
                outcome="completed",
                epochs={1: combined.metrics},
                precision=combined.precision,
                started_ms=time_ms,
                ended_ms=time_ms,
                members=combined.members,
            )

    @property
    def ensemble(self) -> TrialResult | None:
        """The ensemble of `combined`; None if there is none."""
        return self.ensembles[self.combined.trial] if self.combined is not None else None

    def _suggest(self, data: Suggested) -> None:
        before = next(reversed(self.trials.values()), None)
        config = _share_parts(data.config, before.config) if before is not None else data.config
        trial = TrialResult(data.trial, data.params, config, repeat_of=data.repeat_of)
        if not trial.repeat_of:  # journals of earlier versions have no stem
            trial.training_key = data.stem or training_key_of(trial.config)
        if not trial.repeat_of:
            self.trials[trial.trial] = trial
        elif self.selection is not None:
            self.selection.repeats[trial.trial] = trial

    def _select(self, data: Selecting) -> None:
        session = Session.of(data)
        if self.selection is None:
            self.selection = Selection(data, [session])
        else:
            self.selection.begin_again(data)
            self.selection.started = data
            self.selection.sessions.append(session)
            self.selection.outcome, self.selection.reason = "running", ""
        self.current_sessions = self.selection.sessions
        self.cut_off()

    def _apply_to_selection(
        self, data: Dropped | Selected | Concluded, selection: Selection
    ) -> None:
        match data:
            case Dropped():
                selection.dropped[data.candidate] = data
            case Selected():
                selection.verdict = data
            case Concluded():
                selection.outcome, selection.reason = data.outcome, data.reason
                self.cut_off()

    def _refine(self, data: Refined | Settled, refinement: Refinement) -> None:
        if isinstance(data, Settled):
            refinement.reason = data.reason
        else:
            refinement.rounds.append(data)
            self.started = replace(self.started, experiment=data.experiment)

    def _answer(self, data: Requested, time_ms: int) -> None:
        """Record an answered request, and apply its changes unless it was refused."""
        self.requests[data.id] = AnsweredRequest(time_ms, data)
        if data.is_refused:
            return
        if data.changes:
            changed = {**self.started.experiment, **data.changes}
            self.started = replace(self.started, experiment=changed)
        if data.action == STOP and not data.trial:
            self.stopping = self.stopping or data
        elif data.action == STOP and (trial := self.trials.get(data.trial)) is not None:
            trial.stop_request = trial.stop_request or data

    def _test(self, data: Tested, time_ms: int) -> None:
        # Journals of earlier versions have no `Opened`.
        if not self.openings or self.openings[-1].trial != data.trial:
            self.openings.append(Opening(time_ms, data.by, data.trial))
        if data.trial in self.trials or data.trial in self.ensembles:
            self.tested = data
        elif self.selection is not None:
            self.selection.tested = data

    def _resume(self, data: Resumed) -> None:
        self.started = self.started.changed_by(data)
        self.current_sessions = self.sessions
        self.current_sessions.append(Session.of(data))
        self.outcome, self.reason, self.is_drawn, self.risk = "running", "", False, None
        self.unevaluated = {}
        if data.refining is not None:
            if self.refinement is None or self.refinement.is_over:
                self.refinement = Refinement(data.refining)
            self.refinement.terms = data.refining
        self.cut_off()

    def cut_off(self) -> None:
        """Mark running trials as interrupted, since no driver runs them now."""
        self._state += 1
        repeats = self.selection.repeats if self.selection is not None else {}
        for trial in (*self.trials.values(), *repeats.values()):
            if trial.outcome == "running":
                trial.outcome, trial.wait_reason = "interrupted", ""

    @property
    def metric(self) -> Metric:
        """The metric by which trials are ranked, stopped and chosen."""
        return metric_of(self.started.experiment.get("base", {}))

    @property
    def task(self) -> TaskEntry:
        """The task that trials are trained for."""
        return task_of(self.started.experiment.get("base", {}))

    @property
    def steps(self) -> float:
        """The resolution of the metric: the reciprocal of its change due to a single image.

        For a share of n images it is n. For other metrics, one image is assumed to change the value
        by 2 * (standard error) / sqrt(n). For a share of one half, whose standard error is
        1 / (2 * sqrt(n)), this is 1 / n. A value between 0 and 1 changes by at least 1 / n.
        """
        images, best, metric = float(self.images), self.best, self.metric
        if metric.is_share or best is None or not images:
            return images
        moved = 2 * best.error(self.images) / math.sqrt(images)
        least = 1 / images if metric.is_fraction else 1e-9
        return 1 / max(moved, least)

    @property
    def ranking(self) -> list[TrialResult]:
        """The trials that have finished an epoch, except diverged and failed ones, the best first.

        Ties go to the cheaper trial if cost is an objective, then to the one with the lower loss.
        The ranking is cached until the next event: a page needs it dozens of times, and with
        thousands of trials it takes a tenth of a second.
        """
        return [*self._compute_once(SearchResult._rank_trials)]

    def _compute_once(
        self, compute: "Callable[[SearchResult], list[TrialResult]]"
    ) -> list[TrialResult]:
        """Return `compute(self)`, which is cached until the result changes."""
        state = self._state, len(self.trials)
        cached = self._computed.get(compute.__name__)
        if cached is None or cached[0] != state:
            cached = self._computed[compute.__name__] = state, compute(self)
        return cached[1]

    def _rank_trials(self) -> list[TrialResult]:
        ranked = sorted(
            self._counted, key=lambda trial: trial.metric.rank(trial.best), reverse=True
        )
        if not (objectives := self.further_objectives):
            return ranked
        unknown, costs = (
            (math.inf,) * len(objectives),
            {name: costs_of(objectives, cost) for name, cost in self.costs.items()},
        )
        return sorted(ranked, key=lambda trial: (-trial.score, costs.get(trial.trial, unknown)))

    @property
    def distinct(self) -> list[TrialResult]:
        """The ranking with one trial per training.

        Use it for statistics, where trials that differ only in length are one observation.
        """
        return [*self._compute_once(SearchResult._find_distinct)]

    def _find_distinct(self) -> list[TrialResult]:
        return furthest_of_each_training(self.ranking)

    @property
    def _counted(self) -> list[TrialResult]:
        return [
            trial for trial in self.trials.values() if trial.outcome not in FAILED and trial.epochs
        ]

    @property
    def further_objectives(self) -> tuple[str, ...]:
        """The names of the objectives besides the metric."""
        return tuple(self.started.experiment.get("objectives", ())[1:])

    @property
    def costs(self) -> dict[str, Json]:
        """The known values in further objectives (`objective_value`), by trial.

        They are the costs of using the trials' networks and, if they are objectives, what was
        measured after their best epochs. If cost is an objective, all trials need the same kind of
        measurement. If all trials have been measured while nothing else ran, these measurements are
        used. Otherwise the measurements from the first epochs are used, although other trainings
        slow these down.
        """
        counted, objectives = self._counted, self.further_objectives
        needs_costs, measures = need_costs(objectives), measured_keys(objectives)
        all_alone = not needs_costs or all(trial.cost for trial in counted)
        costs: dict[str, Json] = {}
        for trial in counted:
            cost = trial.cost if all_alone else trial.costed or trial.cost
            measured = {key: trial.best[key] for key in measures if key in trial.best}
            if cost or (measured and not needs_costs):
                costs[trial.trial] = {**cost, **measured}
        return costs

    @property
    def best_of_models(self) -> dict[str, TrialResult]:
        """The best trial of each model, by the model's name, the best model first.

        Trials with a damaged checkpoint do not count.
        """
        best_by_model: dict[str, TrialResult] = {}
        for trial in self.ranking:
            if trial.trial not in self.passed_over:
                best_by_model.setdefault(trial.config["model"]["name"], trial)
        return best_by_model

    @property
    def best(self) -> TrialResult | None:
        """The first trial of the ranking whose checkpoint is not known to be damaged."""
        return next((trial for trial in self.ranking if trial.trial not in self.passed_over), None)

    @property
    def candidates(self) -> list[TrialResult]:
        """The models that may be the answer of the search itself, in the order of preference.

        The ensemble of some trials is the first one, if it was chosen; then the ranking follows.
        """
        combined, ensemble = self.combined, self.ensemble
        if combined is None or ensemble is None or not combined.is_chosen or self.is_ensemble_old:
            return self.ranking
        return [ensemble, *self.ranking]

    @property
    def answer(self) -> TrialResult | None:
        """The first of the `candidates` whose checkpoint is not known to be damaged."""
        return next(
            (model for model in self.candidates if model.trial not in self.passed_over), None
        )

    @property
    def is_ensemble_chosen(self) -> bool:
        """True if the answer of the search, or of its selection, is an ensemble of trials."""
        return self.ensemble is not None and self.chosen is self.ensemble

    @property
    def chosen(self) -> TrialResult | None:
        """The model that is the answer: the selection's choice, or else the search's `answer`."""
        chosen = self.selection.chosen if self.selection is not None else None
        return chosen or self.answer

    @property
    def chosen_test(self) -> Json:
        """The evaluation of `chosen` on the test set; empty if there is none yet."""
        return (
            self.selection.test
            if self.selection is not None and self.selection.chosen is not None
            else self.test
        )

    def test_of(self, trial: TrialResult) -> Json:
        """Return a training's evaluation on the test set; empty if there is none."""
        if trial is self.chosen:
            return self.chosen_test
        tested = self.tested
        if tested is None or (tested.trial, tested.epoch) != (trial.trial, trial.best_epoch):
            return {}
        return tested.test

    @property
    def is_selection_old(self) -> bool:
        """True if the search continued after its selection: other trials may be the best now."""
        return self.selection is not None and self.current_sessions is self.sessions

    @property
    def passed_over(self) -> dict[str, str]:
        """The models that come before the tested one, but have a damaged checkpoint.

        Their names are mapped to descriptions of the damage.
        """
        return (self.tested.passed_over or {}) if self.tested is not None else {}

    @property
    def is_over(self) -> bool:
        """True if the search has ended, so that a selection may begin.

        Some of its trials may be unfinished if its budget is used up or a request has stopped it.
        """
        return self.outcome in OPEN or (self.outcome in ENDED and not self.unfinished)

    @property
    def has_ended(self) -> bool:
        """True if the search, or its selection if that ran last, has ended as intended."""
        return self._last_outcome in ENDED

    @property
    def _last_outcome(self) -> str:
        """The outcome of the search, or of its selection if that ran last."""
        if self.selection is not None and self.current_sessions is self.selection.sessions:
            return self.selection.outcome
        return self.outcome

    @property
    def images(self) -> int:
        """The number of images on which each trial is validated.

        With cross-validation, these are all images outside the test set.
        """
        return max(1, int(self.started.data["val"]))

    @property
    def is_sealed(self) -> bool:
        """True if the search does not use the test set."""
        return bool(self.started.experiment.get("sealed", False))

    @property
    def is_improvement(self) -> bool:
        """True for a search by `search.improve`, whose decision uses the test set."""
        return self.is_sealed and self.started.experiment["space"]["name"] == IMPROVEMENT

    @property
    def test(self) -> Json:
        """The evaluation of `answer` on the test set; empty if there is none yet."""
        return self.tested.test if self.tested is not None and self.is_tested else {}

    @property
    def is_tested(self) -> bool:
        """True if nothing remains to be evaluated on the test set.

        A sealed search has nothing to test: only a selection uses the test set.
        """
        answer = self.answer
        if self.is_sealed and self.tested is None:
            return True
        if answer is None:
            return not self.ranking
        tested = self.tested
        return tested is not None and (tested.trial, tested.epoch) == (
            answer.trial,
            answer.best_epoch,
        )

    @property
    def counts(self) -> dict[str, int]:
        """The number of trials with each outcome."""
        return dict(Counter(trial.outcome for trial in self.trials.values()))

    @property
    def ended(self) -> int:
        """The number of trials that have ended."""
        return sum(trial.ended_ms > 0 for trial in self.trials.values())

    @property
    def epochs_trained(self) -> int:
        """The number of epochs that all trials have trained themselves, without reused epochs."""
        return sum(len(trial.own_epochs) for trial in self.trials.values())

    @property
    def reused_epochs(self) -> dict[str, tuple[int, int]]:
        """Maps searches to (number of trials that reuse their epochs, number of reused epochs)."""
        totals: dict[str, tuple[int, int]] = {}
        for trial in self.trials.values():
            for search in {source.search: None for source in trial.inherited}:
                epochs = len(
                    {
                        epoch
                        for source in trial.inherited
                        if source.search == search
                        for epoch in source.epochs
                    }
                    & trial.epochs.keys()
                )
                trials, before = totals.get(search, (0, 0))
                totals[search] = (trials + 1, before + epochs)
        return totals

    @property
    def train_s(self) -> float:
        """Seconds spent in training and validation steps of all trials, without reused epochs."""
        return sum(
            metrics["time/epoch_s"]
            for trial in self.trials.values()
            for metrics in trial.own_epochs.values()
        )

    @property
    def started_ms(self) -> int:
        """The Unix time in milliseconds at which the search's first command started."""
        return self.sessions[0].began_ms

    @property
    def wall_s(self) -> float:
        """The total duration of all sessions in seconds, including the starts of Ray.

        Sessions of a selection do not count, and neither does time while the machine was suspended.
        """
        return elapsed_s(self.sessions)

    @property
    def slot_efficiency(self) -> float:
        """The share of the total slot time that was spent in training and validation steps."""
        slot_s = sum(session.slot_s for session in self.sessions)
        return self.train_s / slot_s if slot_s else 0.0

    @property
    def failed(self) -> list[TrialResult]:
        """The trials that diverged or failed."""
        return [trial for trial in self.trials.values() if trial.outcome in FAILED]

    @property
    def unfinished(self) -> list[TrialResult]:
        """The trials that have not ended."""
        return [trial for trial in self.trials.values() if trial.outcome in UNFINISHED]


def _share_parts(config: Json, template: Json) -> Json:
    """Replace parts of a config by the objects in `template` that are equal to them.

    Most parts, such as `data`, are equal in all trials of a search. With thousands of trials,
    copies of them would take as much memory as all epochs.
    """
    return {
        name: template[name] if _is_same(value, template.get(name)) else value
        for name, value in config.items()
    }


def _is_same(part: Any, other_part: Any) -> bool:
    """True if two values are flat dicts that have the same text in JSON.

    `==` is not enough, because Python considers 1, 1.0 and True equal.
    """
    if not (isinstance(part, dict) and isinstance(other_part, dict)) or part != other_part:
        return False
    kinds = [*map(type, part.values())]
    is_flat = not {dict, list} & {*kinds}
    return is_flat and [*part] == [*other_part] and kinds == [*map(type, other_part.values())]


def furthest_of_each_training(trials: Sequence[TrialResult]) -> list[TrialResult]:
    """Return one trial for each training, the one that has trained furthest, in the given order.

    Ties go to the trial with more planned epochs. A failed trial represents its training only if
    all trials of the training failed.
    """
    furthest: dict[str, TrialResult] = {}
    for trial in trials:
        leader = furthest.setdefault(trial.training_key or trial.trial, trial)
        if _length(trial) > _length(leader):
            furthest[trial.training_key or trial.trial] = trial
    return [trial for trial in trials if furthest[trial.training_key or trial.trial] is trial]


def _length(trial: TrialResult) -> tuple[bool, int, int]:
    return trial.outcome not in FAILED, trial.reached, trial.config.get("epochs", 0)


def _apply_to_trial(trial: TrialResult, data: EventData, time_ms: int) -> None:
    trial.wait_reason = data.reason if isinstance(data, Waiting) else ""
    match data:
        case Epoch():  # first, as most events are epochs
            trial.epochs[data.epoch], trial._best = data.metrics, (-1, None)
            if data.folds:
                trial.folds[data.epoch] = data.folds
            trial.precision = data.precision
        case Running():
            trial.outcome, trial.attempt = "running", data.attempt
            trial.is_freed = False
            trial.started_ms = trial.started_ms or time_ms
        case Restored() if (warm_start := data.begun) is not None:
            epochs = list(range(max(trial.epochs, default=0) + 1, warm_start.epoch + 1))
            trial.inherited.append(InheritedEpochs(warm_start.search, warm_start.trial, epochs))
        case Costed():
            trial.costed = data.cost
        case Evaluated():
            trial.evaluated = data
        case Stressed():
            trial.stressed[data.evaluation] = data
        case Stopped():
            trial.stop = data
        case Paused():
            trial.outcome = "interrupted"
        case Held():
            trial.outcome, trial.hold_reason = "held", data.reason
        case Promoted():
            trial.outcome, trial.hold_reason = (
                ("running" if trial.outcome == "running" else "pending"),
                "",
            )
        case Retried():
            trial.attempt += trial.outcome != "running"  # it failed before its `Running` event
            trial.outcome = "pending"
            trial.retries.append(data.kind)
        case Ended():
            trial.outcome, trial.reason, trial.hold_reason = data.outcome, data.reason, ""
            trial.kind, trial.ended_ms = data.kind, time_ms


def checkpoint_of(trial: TrialResult, folder: Path) -> Path:
    """Return the path of the checkpoint of a trial's best epoch, in the search's `folder`."""
    return folder / "trials" / trial.trial / f"epoch-{trial.best_epoch:04d}"


def metric_of(config: Mapping[str, Any]) -> Metric:
    """Return the metric of a config from a journal.

    Raises:
        JournalError: this version does not know the metric.
    """
    task = task_of(config)
    name = str(config.get("metric", task.primary.name))
    if (metric := task.metric_of_name.get(name)) is None:
        raise JournalError(
            f"the search ranks trials by '{name}', a metric that this version of the "
            f"program does not know. Known metrics: {', '.join(task.names)}. Use the version that "
            "ran the search."
        )
    return metric


def task_of(config: Mapping[str, Any]) -> TaskEntry:
    """Return the task of a config from a journal.

    Raises:
        JournalError: this version does not know the task.
    """
    name = task_name(config.get("data", {}))
    if name not in TASKS:
        raise JournalError(
            f"the search is for '{name}', a task that this version of the program does not know. "
            f"Known tasks: {', '.join(TASKS)}. Use the version that ran the search."
        )
    return TASKS[name]
