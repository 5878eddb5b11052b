"""The result of a search, computed from its journal's events and nothing else."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from search.journal.events import (
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
    Promoted,
    Refined,
    RefinementTerms,
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
from search.values.objectives import costs_of
from search.values.statistics import error_of
from trainables.catalog.ranking import rank
from trainables.catalog.tasks import DEFAULT_TASK, TASKS, Metric, TaskEntry
from trainables.checkpoints.lineage import training_key_of
from trainables.messages import Cost
from trainables.values import Json, Params

FAILED = ("diverged", "failed")
"""Outcomes that never count. The best epoch of any other trial does: its checkpoint was measured on
the same images as all others.
"""

UNFINISHED = ("pending", "running", "interrupted", "held")
"""Outcomes that a resume goes on with."""

PICTURES, PAGE, STUDY = "pictures", "report.html", "optuna.log"
"""Names in the search's folder: the folder of the search's own pictures, the report, and Optuna's
study. Once the pictures are there, everything is drawn.
"""
DATA_REPORT, DATA_PICTURE = "data.json", "data.png"
"""Likewise the report on the data, and its picture."""
IMPROVEMENT = "improvement"
"""The space of a search by `search.improve`."""

ENDED = ("completed", "budget", "gain", "stopped")
"""Outcomes of a search that has done what it was asked to: all trials, as many as its budget
allows, or as many as are worthwhile; or it was asked to stop, with what it had.
"""
OPEN = ("budget", "stopped")
"""Those of a search that may have trials which have not come to their end."""

RENAMED = {"time_budget": "budget"}
"""Names of outcomes in version 0.1, and their names now."""

NO_TIME = "no time was left"
"""The reason of a missing evaluation that a resume with more time makes up for."""


@dataclass(frozen=True)
class Begun:
    """A trial that has trained epochs of another one."""

    search: str
    trial: str
    epochs: list[int]
    """These epochs."""


@dataclass
class TrialResult:
    """One trial, as far as the journal tells."""

    trial: str
    params: Params
    config: Json
    """Parts of it are shared with other trials, so it is replaced, never changed in place."""
    outcome: str = "pending"
    reason: str = ""
    kind: str = ""
    """The kind of a failure: error, memory, lost or hung."""
    attempt: int = 0
    retries: list[str] = field(default_factory=list)
    """The kind of each failure after which the trial was tried again."""
    stop: Stopped | None = None
    """Of a stopped trial: by whom it was stopped, and what the decision rests on."""
    held: str = ""
    """The reason why it waits at a rung."""
    waiting: str = ""
    """The reason why it makes no progress for now."""
    epochs: dict[int, dict[str, float]] = field(default_factory=dict)
    folds: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    """Of a trial that was cross-validated: each fold's metrics, by epoch."""
    costed: Cost = field(default_factory=Cost)
    """The costs of using it, as measured beside other trials, if cost is an objective."""
    begun: list[Begun] = field(default_factory=list)
    """Trials that have trained epochs of this one."""
    trainings: set[str] = field(default_factory=set)
    """The fingerprints of the code, data and machine that trained it: more than one if any of these
    changed on the way.
    """
    started_ms: int = 0
    ended_ms: int = 0
    repeat_of: str = ""
    """Of a training for a selection: the candidate, a trial of the search."""
    training_key: str = ""
    """Equal for trials that differ in length alone: they are one training
    (`trainables.checkpoints.lineage`).
    """
    precision: str = ""
    """The precision of its last epoch's training: fp32, bf16 or fp16; empty if the journal does not
    say.
    """
    asked: Requested | None = None
    """The request by which it is to stop."""
    is_freed: bool = False
    """True if its checkpoints were removed, and it has not run since."""
    evaluated: Evaluated | None = None
    """The last evaluation on the validation part (see `evaluation`)."""
    _best: tuple[int, int | None] = field(default=(-1, None), init=False, repr=False, compare=False)
    """The best epoch of so many epochs: it is asked for often, of all trials."""

    @property
    def best_epoch(self) -> int | None:
        """The epoch that is best by the metric; None before the first.

        Among equally good ones it is the one with the lowest validation loss, then the first.
        """
        if self._best[0] != len(self.epochs):
            metric = self.metric
            self._best = (
                len(self.epochs),
                max(
                    self.epochs,
                    key=lambda epoch: (*rank(self.epochs[epoch], metric), -epoch),
                    default=None,
                ),
            )
        return self._best[1]

    @property
    def best(self) -> dict[str, float]:
        """The metrics of the best epoch; empty before the first."""
        return self.epochs[self.best_epoch] if self.best_epoch is not None else {}

    @property
    def metric(self) -> Metric:
        """The metric by which its epochs are ranked."""
        return metric_of(self.config)

    @property
    def value(self) -> float:
        """The metric on the validation part at the best epoch; NaN before the first."""
        return self.best.get(self.metric.key, math.nan)

    @property
    def score(self) -> float:
        """The same so that higher is better."""
        return self.metric.score(self.value)

    def error(self, images: int) -> float:
        """Return the standard error of the value, which was measured on so many images."""
        return error_of(self.metric, self.best, images)

    @property
    def task(self) -> TaskEntry:
        """The task that it was trained for."""
        return task_of(self.config)

    @property
    def primary_value(self) -> float:
        """The task's primary metric at the best epoch, whatever ranks epochs; NaN before the first.

        Of a classifier it is the share of images that are named right.
        """
        return self.best.get(self.task.primary.key, math.nan)

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation of the folds' values at the best epoch.

        None without folds.
        """
        return self.best.get(self.metric.deviation_key)

    @property
    def evaluation(self) -> Evaluated | None:
        """The evaluation of its best epoch on the validation part; None before it was evaluated."""
        known = self.evaluated
        return known if known is not None and known.epoch == self.best_epoch else None

    @property
    def cost(self) -> Cost:
        """The cost of using it, as `trainables.evaluation.cost` measures it with nothing beside it.

        Empty if it was not measured.
        """
        return self.evaluation.cost if self.evaluation is not None else {}

    @property
    def reached(self) -> int:
        """The last epoch that it has finished; 0 before the first."""
        return max(self.epochs, default=0)

    @property
    def train_s(self) -> float:
        """Seconds inside training and validation steps, those of its warm start included."""
        return sum(metrics["time/epoch_s"] for metrics in self.epochs.values())

    @property
    def was_hearing(self) -> bool:
        """True if it had a warm start of which some epochs are not in the journal yet."""
        return bool(self.begun) and max(self.begun[-1].epochs, default=0) > max(
            self.epochs, default=0
        )

    @property
    def own_epochs(self) -> dict[int, dict[str, float]]:
        """The epochs that no other trial has trained for it."""
        if not self.begun:
            return self.epochs
        others = {epoch for one in self.begun for epoch in one.epochs}
        return {epoch: metrics for epoch, metrics in self.epochs.items() if epoch not in others}


@dataclass
class Session:
    """One driver's time with the search."""

    began_ms: int
    """The Unix time at which its command began, and that of its last event: moments, between which
    the date may have been set. How long it has run is `elapsed_ms`.
    """
    last_ms: int
    slots: int
    """The number of trials that may run at once now."""
    members: int = 1
    """The number of trials that share a worker."""
    per_gpu: int = 1
    """The number of workers that share a GPU."""
    driver: str = ""
    """The process that writes it; empty in journals of earlier versions."""
    boot: str = ""
    zero_ms: int = 0
    """The machine whose monotonic clock it counts by, and that clock's reading at its beginning."""
    is_dated: bool = False
    """True if its events tell the date only, as those of earlier versions do."""
    running: int = 0
    """The number of trials that run now."""
    elapsed_ms: int = 0
    """Milliseconds since its command began, Ray's start included."""
    slots_ms: int = 0
    """The time of all slots, added up."""
    trials_ms: int = 0
    """The time that trials have run in it, added up."""
    epoch_ms: int = 0
    """`elapsed_ms` when an epoch was last reported, and when a trial last ended."""
    ended_ms: int = 0

    @classmethod
    def of(cls, data: SessionStart) -> Self:
        """Return the session whose first event this is, before any time is counted."""
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

    def hear(self, time_ms: int, elapsed_ms: int | None) -> None:
        """Count the time until an event, which has these two times.

        Journals of earlier versions have dates only. Of these each step forward counts, and none
        back: the date may have been set.
        """
        if elapsed_ms is None:
            self.is_dated = True
            elapsed_ms = self.elapsed_ms + max(0, time_ms - self.last_ms)
        self.last_ms = time_ms
        self.advance(elapsed_ms)

    def advance(self, elapsed_ms: int) -> None:
        """Count the time until this many milliseconds after the beginning; never count back."""
        step = max(0, elapsed_ms - self.elapsed_ms)
        self.elapsed_ms += step
        self.slots_ms += step * self.slots
        self.trials_ms += step * self.running

    @property
    def now_ms(self) -> int:
        """`elapsed_ms` as it is now, while the session runs.

        On its own machine its clock tells; on another one the date of its last event has to do.
        """
        if self.boot == boot_id():
            return time.monotonic_ns() // 1_000_000 - self.zero_ms
        return self.elapsed_ms + time.time_ns() // 1_000_000 - self.last_ms

    @property
    def trials_s(self) -> float:
        """The time that trials have run in it, added up, in seconds."""
        return self.trials_ms / 1000

    @property
    def slot_s(self) -> float:
        """The time of all slots, added up, in seconds."""
        return self.slots_ms / 1000


def elapsed_s(sessions: Iterable[Session]) -> float:
    """Return the seconds that sessions have run, from each command's start to its last event."""
    return sum(session.elapsed_ms for session in sessions) / 1000


def is_other_race(before: Selecting, now: Selecting) -> bool:
    """Return whether the terms of a selection's race have changed: then it is another race."""
    return (before.candidates, before.seeds, before.alpha) != (
        now.candidates,
        now.seeds,
        now.alpha,
    )


def moment(time_ms: int) -> str:
    """Return a Unix time in milliseconds as text, such as `2026-11-25 20:58 UTC`."""
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True)
class Opening:
    """One look at the sealed test part."""

    time_ms: int
    by: str
    """The verb: `search.run`, `search.resume` or `search.select`."""
    trial: str

    def __str__(self) -> str:
        """Return it as text, such as `2026-11-25 20:58 UTC by search.run for t0007`."""
        return f"{moment(self.time_ms)} by {self.by} for {self.trial}"


@dataclass(frozen=True)
class Answered:
    """A request that was answered, at this Unix time in milliseconds."""

    time_ms: int
    request: Requested


@dataclass
class Selection:
    """The search's best few, trained again with fresh seeds (`search.select`)."""

    started: Selecting
    """The first event of its last session."""
    sessions: list[Session]
    repeats: dict[str, TrialResult] = field(default_factory=dict)
    """The trainings, by name, such as `t0007-s2`; each knows its candidate (`repeat_of`)."""
    dropped: dict[str, Dropped] = field(default_factory=dict)
    """Candidates that left the race early."""
    verdict: Selected | None = None
    """The choice; None before it."""
    tested: Tested | None = None
    """The last evaluation of one of its trainings on the test part; None before."""
    outcome: str = "running"
    reason: str = ""

    def begin_again(self, terms: Selecting) -> None:
        """Begin another session on these terms, and bring back candidates that left too early.

        These are the `failed` ones. If the terms of the race have changed, they are also those that
        were clearly worse, since they may not be now. Their trainings that failed, or were stopped,
        continue.
        """
        again = self.failed & set(terms.candidates)
        if is_other_race(self.started, terms):
            again |= {name for name, left in self.dropped.items() if left.p is not None}
        self.dropped = {name: left for name, left in self.dropped.items() if name not in again}
        for trial in self.repeats.values():
            if trial.repeat_of in again and trial.outcome in ("failed", "stopped"):
                trial.outcome, trial.reason, trial.kind = "interrupted", "", ""
                trial.stop, trial.retries, trial.ended_ms = None, [], 0

    @property
    def failed(self) -> set[str]:
        """Candidates that left only because a training failed: the cause may have passed.

        A training that diverged would do so again.
        """
        failed, diverged = (
            {trial.repeat_of for trial in self.repeats.values() if trial.outcome == outcome}
            for outcome in ("failed", "diverged")
        )
        worse = {name for name, left in self.dropped.items() if left.p is not None}
        return failed - diverged - worse

    @property
    def chosen(self) -> TrialResult | None:
        """The training whose network was chosen; None before."""
        return self.repeats.get(self.verdict.trial) if self.verdict is not None else None

    @property
    def is_tested(self) -> bool:
        """True if the chosen training has been evaluated on the test part."""
        return (
            self.verdict is not None
            and self.tested is not None
            and self.tested.trial == self.verdict.trial
        )

    @property
    def test(self) -> Json:
        """The chosen training's evaluation on the test part; empty before."""
        return self.tested.test if self.tested is not None and self.is_tested else {}

    @property
    def train_s(self) -> float:
        """Seconds inside training and validation steps."""
        return sum(trial.train_s for trial in self.repeats.values())


@dataclass
class Refinement:
    """Further rounds of a search (`search.refine`).

    Each is in a space made from what was observed before.
    """

    terms: RefinementTerms
    rounds: list[Refined] = field(default_factory=list)
    reason: str = ""
    """The reason why it ended; empty before."""

    @property
    def is_over(self) -> bool:
        """True if there will be no further round."""
        return bool(self.reason)


@dataclass
class SearchResult:
    """A search and its trials, in the order of suggestion.

    `apply` takes the journal's events one by one.
    """

    name: str = ""
    started: Started = field(default_factory=Started)
    """The first event, with what later sessions have changed of it."""
    sessions: list[Session] = field(default_factory=list)
    now: list[Session] = field(default_factory=list)
    """The list to whose last session events belong now: the search's sessions, or its selection's.
    """
    trials: dict[str, TrialResult] = field(default_factory=dict)
    tested: Tested | None = None
    """The last evaluation of one of its trials on the test part; None before."""
    openings: list[Opening] = field(default_factory=list)
    """Every look at the test part."""
    selection: Selection | None = None
    refinement: Refinement | None = None
    is_drawn: bool = False
    """True if the pictures and the best trial's evidence are in the search's folder."""
    unevaluated: dict[str, list[str]] = field(default_factory=dict)
    """The trials that the last session could not evaluate, by the reason."""
    outcome: str = "running"
    reason: str = ""
    risk: Risked | None = None
    """The risk of having stopped trials at the search's end; None where that is not known."""
    requests: dict[str, Answered] = field(default_factory=dict)
    """The requests that were answered, by id, in that order."""
    stopping: Requested | None = None
    """The request by which the search is to stop, until it has."""
    _state: int = field(default=0, init=False, repr=False, compare=False)
    """A number that grows with whatever `apply` and `cut_off` change."""
    _computed: dict[str, tuple[tuple[int, int], list[TrialResult]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """By the name of what computed it (`_once`): the state and number of trials, and the result."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the result of the search in this folder, finished or not.

        Raises:
            JournalError: no search there, or its journal is damaged.
        """
        with without_garbage_collection():
            return cls.of(events_of(folder / FILE_NAME), folder)

    @classmethod
    def kept_in(cls, home: Home) -> tuple[Self, str]:
        """Return the result of a search as it stands, and the driver that has it now, if any does.

        With one, the time since its last event is counted too. Without one, trials that were at
        work are cut off.

        Raises:
            JournalError: no search there, or its journal is damaged.
        """
        result, holder = cls.read(home.opened()), home.holder()
        if holder:
            return result.until_now(holder), holder
        result.cut_off()
        return result, holder

    @classmethod
    def of(cls, events: Iterable[Event], folder: Path) -> Self:
        """Return the result that these events make.

        Raises:
            JournalError: they hold no beginning of a search.
        """
        result = cls()
        for event in events:
            result.apply(event)
        if not result.sessions:
            if (folder / "trials").exists():
                raise DamagedJournal(
                    f"the journal {folder / FILE_NAME} has no beginning, but there are trials. "
                    "Bring it back from a copy."
                )
            raise JournalError(
                f"the search at '{folder}' was cut off before it began. Start it again under "
                "another name."
            )
        return result

    def apply(self, event: Event) -> None:
        """Take one event."""
        self._state += 1
        data = event.data
        if self.now and not isinstance(data, SessionStart | Freed):  # `Freed` is of no session
            self.now[-1].hear(event.time_ms, event.elapsed_ms)
        self._apply(data, event.time_ms)
        if isinstance(data, SessionStart):
            self.now[-1].hear(event.time_ms, event.elapsed_ms)
        elif isinstance(data, Epoch) and self.now:
            self.now[-1].epoch_ms = self.now[-1].elapsed_ms
        elif isinstance(data, Ended) and self.now:
            self.now[-1].ended_ms = self.now[-1].elapsed_ms

    def until_now(self, holder: str) -> Self:
        """Return the result with the time counted that has passed since the last event.

        `holder` is the driver that has the search now. Nothing has passed unless it is the one
        that writes the last session: another is only about to begin one. Nor after the session's
        last event, when its driver only waits for MLflow.
        """
        if not self.now or not holder or self._last_outcome != "running":
            return self
        # A lease on another machine is named with "if that still lives" behind a comma.
        if holder.partition(",")[0] != self.now[-1].driver:
            return self
        session = replace(self.now[-1])
        session.advance(session.now_ms)
        now = [*self.now[:-1], session]
        if self.now is self.sessions:
            shown = replace(self, sessions=now, now=now)
        else:
            selection = self.selection and replace(self.selection, sessions=now)
            shown = replace(self, selection=selection, now=now)
        # Its trials are the same objects: a page of a search that runs ranks them once, too.
        shown._state, shown._computed = self._state, self._computed
        return shown

    def _apply(self, data: EventData, time_ms: int) -> None:
        match data:
            case Epoch() if (trial := self.find(data.trial)) is not None:  # which most events are
                self._apply_to(trial, data, time_ms)
            case Started():
                self.name, self.started = data.name, data
                self.now = self.sessions = [Session.of(data)]
            case Resumed():
                self._resume(data)
            case Slots() if self.now:
                self.now[-1].slots = data.count
            case Suggested():
                self._suggest(data)
            case Opened():
                self.openings.append(Opening(time_ms, data.by, data.trial))
            case Tested():
                self._test(data, time_ms)
            case Unevaluated() if self.now is self.sessions:
                self.unevaluated = data.reasons
            case Evidence() if data.file == PICTURES:
                self.is_drawn = True
            case Risked():
                self.risk = data
            case Freed():
                for gone in filter(None, map(self.find, data.trials)):
                    gone.is_freed = True
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
                self._race(data, self.selection)
            case _ if (trial := self.find(getattr(data, "trial", ""))) is not None:
                self._apply_to(trial, data, time_ms)

    def _apply_to(self, trial: TrialResult, data: EventData, time_ms: int) -> None:
        """Take an event of one trial."""
        ran = trial.outcome == "running"
        trial.trainings |= {self.training} if isinstance(data, Running) else set()
        _apply_to_trial(trial, data, time_ms)
        if self.now and ran != (trial.outcome == "running"):
            self.now[-1].running += -1 if ran else 1

    @property
    def training(self) -> str:
        """The fingerprint of what, beside its config, decides a training now.

        Empty if the journal does not say.
        """
        return self.started.training

    def find(self, name: str) -> TrialResult | None:
        """Return a trial of the search or a training of its selection; None if there is none."""
        return self.trials.get(name) or (
            self.selection.repeats.get(name) if self.selection is not None else None
        )

    def _suggest(self, data: Suggested) -> None:
        before = next(reversed(self.trials.values()), None)
        config = _sharing(data.config, before.config) if before is not None else data.config
        trial = TrialResult(data.trial, data.params, config, repeat_of=data.repeat_of)
        if not trial.repeat_of:  # journals of an earlier version do not tell the stem
            trial.training_key = data.stem or training_key_of(trial.config)
        if not trial.repeat_of:
            self.trials[trial.trial] = trial
        elif self.selection is not None:
            self.selection.repeats[trial.trial] = trial

    def _select(self, data: Selecting) -> None:
        """Begin a session of a selection, the first or one that goes on."""
        session = Session.of(data)
        if self.selection is None:
            self.selection = Selection(data, [session])
        else:
            self.selection.begin_again(data)
            self.selection.started = data
            self.selection.sessions.append(session)
            self.selection.outcome, self.selection.reason = "running", ""
        self.now = self.selection.sessions
        self.cut_off()

    def _race(self, data: Dropped | Selected | Concluded, selection: Selection) -> None:
        """Take an event of the selection's race."""
        match data:
            case Dropped():
                selection.dropped[data.candidate] = data
            case Selected():
                selection.verdict = data
            case Concluded():
                selection.outcome, selection.reason = data.outcome, data.reason
                self.cut_off()

    def _refine(self, data: Refined | Settled, refinement: Refinement) -> None:
        """Take an event of the refinement."""
        if isinstance(data, Settled):
            refinement.reason = data.reason
        else:
            refinement.rounds.append(data)
            self.started = replace(self.started, experiment=data.experiment)

    def _answer(self, data: Requested, time_ms: int) -> None:
        """Take the answer to a request, which an answer that refuses it leaves without effect."""
        self.requests[data.id] = Answered(time_ms, data)
        if data.is_refused:
            return
        if data.changes:
            changed = {**self.started.experiment, **data.changes}
            self.started = replace(self.started, experiment=changed)
        if data.action == STOP and not data.trial:
            self.stopping = self.stopping or data
        elif data.action == STOP and (trial := self.trials.get(data.trial)) is not None:
            trial.asked = trial.asked or data

    def _test(self, data: Tested, time_ms: int) -> None:
        # A journal of an earlier version does not tell of openings.
        if not self.openings or self.openings[-1].trial != data.trial:
            self.openings.append(Opening(time_ms, data.by, data.trial))
        if data.trial in self.trials:
            self.tested = data
        elif self.selection is not None:
            self.selection.tested = data

    def _resume(self, data: Resumed) -> None:
        self.started = self.started.changed_by(data)
        self.now = self.sessions
        self.now.append(Session.of(data))
        self.outcome, self.reason, self.is_drawn, self.risk = "running", "", False, None
        self.unevaluated = {}
        if data.refining is not None:
            if self.refinement is None or self.refinement.is_over:
                self.refinement = Refinement(data.refining)
            self.refinement.terms = data.refining
        self.cut_off()

    def cut_off(self) -> None:
        """Mark running trials as interrupted: nobody trains them now."""
        self._state += 1
        repeats = self.selection.repeats if self.selection is not None else {}
        for trial in (*self.trials.values(), *repeats.values()):
            if trial.outcome == "running":
                trial.outcome, trial.waiting = "interrupted", ""

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
        """The number of steps from the metric's one end to the other that single images make.

        For a share of the images it is their number. Otherwise an image is taken to move a value by
        twice its standard error over the root of their number, as it does a share of one half; and
        a value between 0 and 1 at least as a share.
        """
        images, best, metric = float(self.images), self.best, self.metric
        if metric.is_share or best is None or not images:
            return images
        moved = 2 * best.error(self.images) / math.sqrt(images)
        least = 1 / images if metric.is_fraction else 1e-9
        return 1 / max(moved, least)

    @property
    def ranking(self) -> list[TrialResult]:
        """Trials with a best epoch, the best first, without diverged and failed ones.

        Of equally good ones the first is the one that costs less, if cost is an objective, and
        then the one with less loss. It is computed once for each state of the search: pages ask
        for it dozens of times, and with thousands of trials it takes a tenth of a second.
        """
        return [*self._once(SearchResult._rank_trials)]

    def _once(self, compute: "Callable[[SearchResult], list[TrialResult]]") -> list[TrialResult]:
        """Return what a function computes of the search, once for each state of it."""
        state = self._state, len(self.trials)
        known = self._computed.get(compute.__name__)
        if known is None or known[0] != state:
            known = self._computed[compute.__name__] = state, compute(self)
        return known[1]

    def _rank_trials(self) -> list[TrialResult]:
        ranked = sorted(
            self._counted, key=lambda trial: rank(trial.best, trial.metric), reverse=True
        )
        if not (wanted := self.costs_wanted):
            return ranked
        unknown, costs = (
            (math.inf,) * len(wanted),
            {name: costs_of(wanted, cost) for name, cost in self.costs.items()},
        )
        return sorted(ranked, key=lambda trial: (-trial.score, costs.get(trial.trial, unknown)))

    @property
    def distinct(self) -> list[TrialResult]:
        """The ranking with one trial for each training.

        Statistics count these: the lengths of one training are one observation.
        """
        return [*self._once(SearchResult._one_a_training)]

    def _one_a_training(self) -> list[TrialResult]:
        return one_a_training(self.ranking)

    @property
    def _counted(self) -> list[TrialResult]:
        return [
            trial for trial in self.trials.values() if trial.outcome not in FAILED and trial.epochs
        ]

    @property
    def costs_wanted(self) -> tuple[str, ...]:
        """The costs that are to be low beside a good metric."""
        return tuple(self.started.experiment.get("objectives", ())[1:])

    @property
    def costs(self) -> dict[str, Cost]:
        """The cost of using each trial's network, by trial, if it is known.

        If cost is an objective, all trials are compared by the same kind of measurement: with
        nothing beside it, if all were measured so, else with their first epochs, when other
        training made them slower.
        """
        counted = self._counted
        alone = not self.costs_wanted or all(trial.cost for trial in counted)
        found = {
            trial.trial: trial.cost if alone else trial.costed or trial.cost for trial in counted
        }
        return {name: cost for name, cost in found.items() if cost}

    @property
    def best_of_models(self) -> dict[str, TrialResult]:
        """The best trial of each model, by the model's name, the best model first.

        Only trials count whose checkpoint is not known to be damaged.
        """
        found: dict[str, TrialResult] = {}
        for trial in self.ranking:
            if trial.trial not in self.passed_over:
                found.setdefault(trial.config["model"]["name"], trial)
        return found

    @property
    def best(self) -> TrialResult | None:
        """The first of the ranking whose checkpoint is not known to be damaged."""
        return next((trial for trial in self.ranking if trial.trial not in self.passed_over), None)

    @property
    def chosen(self) -> TrialResult | None:
        """The training whose network is the answer: a selection's choice, else the best trial."""
        chosen = self.selection.chosen if self.selection is not None else None
        return chosen or self.best

    @property
    def chosen_test(self) -> Json:
        """The evaluation of `chosen` on the test part; empty before."""
        return (
            self.selection.test
            if self.selection is not None and self.selection.chosen is not None
            else self.test
        )

    def test_of(self, trial: TrialResult) -> Json:
        """Return a training's evaluation on the test part; empty if that was not opened for it."""
        if trial is self.chosen:
            return self.chosen_test
        tested = self.tested
        if tested is None or (tested.trial, tested.epoch) != (trial.trial, trial.best_epoch):
            return {}
        return tested.test

    @property
    def is_selection_old(self) -> bool:
        """True if the search has gone on since its selection: its best may be others now."""
        return self.selection is not None and self.now is self.sessions

    @property
    def passed_over(self) -> dict[str, str]:
        """Better trials whose checkpoints were found damaged before the test, with the damage."""
        return (self.tested.passed_over or {}) if self.tested is not None else {}

    @property
    def is_over(self) -> bool:
        """True if it has come to its end, so that a selection may begin.

        A search that its budget or a request ended may have trials that have not come to theirs.
        """
        return self.outcome in OPEN or (self.outcome in ENDED and not self.unfinished)

    @property
    def has_ended(self) -> bool:
        """True if what ran last, the search or its selection, has done what it was asked to."""
        return self._last_outcome in ENDED

    @property
    def _last_outcome(self) -> str:
        """The outcome of what ran last, the search or its selection."""
        if self.selection is not None and self.now is self.selection.sessions:
            return self.selection.outcome
        return self.outcome

    @property
    def images(self) -> int:
        """The number of images that each trial is validated on.

        With folds these are all that are not in the test part.
        """
        return max(1, int(self.started.data["val"]))

    @property
    def is_sealed(self) -> bool:
        """True if the search leaves the test part closed."""
        return bool(self.started.experiment.get("sealed", False))

    @property
    def is_improvement(self) -> bool:
        """True of a search by `search.improve`, whose decision looks at the test part."""
        return self.is_sealed and self.started.experiment["space"]["name"] == IMPROVEMENT

    @property
    def test(self) -> Json:
        """The best trial's evaluation on the test part; empty before."""
        return self.tested.test if self.tested is not None and self.is_tested else {}

    @property
    def is_tested(self) -> bool:
        """True if there is nothing left for this search to test.

        A sealed search leaves the test to a selection.
        """
        best = self.best
        if self.is_sealed and self.tested is None:
            return True
        if best is None:
            return not self.ranking
        tested = self.tested
        return tested is not None and (tested.trial, tested.epoch) == (best.trial, best.best_epoch)

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
        """Finished epochs of all trials; an epoch that others took over counts once.

        It counts for the trial that trained it.
        """
        return sum(len(trial.own_epochs) for trial in self.trials.values())

    @property
    def taken_over(self) -> dict[str, tuple[int, int]]:
        """The number of trials with a warm start and of the epochs that they took over, by search.

        The searches are those whose trials had trained these epochs.
        """
        found: dict[str, tuple[int, int]] = {}
        for trial in self.trials.values():
            for search in {one.search: None for one in trial.begun}:
                epochs = len(
                    {epoch for one in trial.begun if one.search == search for epoch in one.epochs}
                    & trial.epochs.keys()
                )
                trials, before = found.get(search, (0, 0))
                found[search] = (trials + 1, before + epochs)
        return found

    @property
    def train_s(self) -> float:
        """Seconds inside training and validation steps, summed over all trials.

        An epoch that other trials took over counts once, for the trial that trained it.
        """
        return sum(
            metrics["time/epoch_s"]
            for trial in self.trials.values()
            for metrics in trial.own_epochs.values()
        )

    @property
    def started_ms(self) -> int:
        """The Unix time in milliseconds at which the first command began."""
        return self.sessions[0].began_ms

    @property
    def wall_s(self) -> float:
        """The search time: seconds of all sessions, Ray's start included.

        A selection's are not among them, nor the time for which the machine was suspended.
        """
        return elapsed_s(self.sessions)

    @property
    def slot_efficiency(self) -> float:
        """The share of the slots' time that was training."""
        slot_s = sum(session.slot_s for session in self.sessions)
        return self.train_s / slot_s if slot_s else 0.0

    @property
    def failed(self) -> list[TrialResult]:
        """Trials that diverged or failed."""
        return [trial for trial in self.trials.values() if trial.outcome in FAILED]

    @property
    def unfinished(self) -> list[TrialResult]:
        """Trials that have not come to their end."""
        return [trial for trial in self.trials.values() if trial.outcome in UNFINISHED]


def _sharing(config: Json, other: Json) -> Json:
    """Return a config with those parts of another one that are the same, such as its `data`.

    In most trials of a search they are, and of thousands they take as much memory as all epochs.
    """
    return {
        name: other[name] if _is_same(value, other.get(name)) else value
        for name, value in config.items()
    }


def _is_same(part: Any, other: Any) -> bool:
    """Check whether two parts of configs are written alike: 1, 1.0 and true are equal only."""
    if not (isinstance(part, dict) and isinstance(other, dict)) or part != other:
        return False
    kinds = [*map(type, part.values())]
    is_flat = not {dict, list} & {*kinds}
    return is_flat and [*part] == [*other] and kinds == [*map(type, other.values())]


def one_a_training(trials: Sequence[TrialResult]) -> list[TrialResult]:
    """Return, of each training among these trials, the one that came furthest, in their order.

    Of several that came equally far it is the longest one. A failed trial stands for its training
    only if all of that training's trials failed.
    """
    furthest: dict[str, TrialResult] = {}
    for trial in trials:
        known = furthest.setdefault(trial.training_key or trial.trial, trial)
        if _length(trial) > _length(known):
            furthest[trial.training_key or trial.trial] = trial
    return [trial for trial in trials if furthest[trial.training_key or trial.trial] is trial]


def _length(trial: TrialResult) -> tuple[bool, int, int]:
    return trial.outcome not in FAILED, trial.reached, trial.config.get("epochs", 0)


def _apply_to_trial(trial: TrialResult, data: EventData, time_ms: int) -> None:
    trial.waiting = data.reason if isinstance(data, Waiting) else ""
    match data:
        case Running():
            trial.outcome, trial.attempt = "running", data.attempt
            trial.is_freed = False
            trial.started_ms = trial.started_ms or time_ms
        case Restored() if (begun := data.begun) is not None:
            epochs = list(range(max(trial.epochs, default=0) + 1, begun.epoch + 1))
            trial.begun.append(Begun(begun.search, begun.trial, epochs))
        case Epoch():
            trial.epochs[data.epoch], trial._best = data.metrics, (-1, None)
            trial.folds |= {data.epoch: data.folds} if data.folds else {}
            trial.precision = data.precision
        case Costed():
            trial.costed = data.cost
        case Evaluated():
            trial.evaluated = data
        case Stopped():
            trial.stop = data
        case Paused():
            trial.outcome = "interrupted"
        case Held():
            trial.outcome, trial.held = "held", data.reason
        case Promoted():
            trial.outcome, trial.held = ("running" if trial.outcome == "running" else "pending"), ""
        case Retried():
            trial.attempt += trial.outcome != "running"  # it died before it ran
            trial.outcome = "pending"
            trial.retries.append(data.kind)
        case Ended():
            trial.outcome, trial.reason, trial.held = data.outcome, data.reason, ""
            trial.kind, trial.ended_ms = data.kind, time_ms


def checkpoint_of(trial: TrialResult, folder: Path) -> Path:
    """Return the path of the checkpoint of a trial's best epoch, in a search's folder."""
    return folder / "trials" / trial.trial / f"epoch-{trial.best_epoch:04d}"


def metric_of(config: Mapping[str, Any]) -> Metric:
    """Return the metric of a config as the journal has it.

    Raises:
        JournalError: this version does not know the metric.
    """
    task = task_of(config)
    name = str(config.get("metric", task.primary.name))
    if (metric := task.metric_of_name.get(name)) is None:
        raise JournalError(
            f"the search is by '{name}', a metric that this version does not know. "
            f"Known: {', '.join(task.names)}. Use the version that ran it."
        )
    return metric


def task_of(config: Mapping[str, Any]) -> TaskEntry:
    """Return the task of a config as the journal has it.

    Raises:
        JournalError: this version does not know the task.
    """
    name = config.get("data", {}).get("task", DEFAULT_TASK)
    if name not in TASKS:
        raise JournalError(
            f"the search is for '{name}', a task that this version does not know. "
            f"Known: {', '.join(TASKS)}. Use the version that ran it."
        )
    return TASKS[name]
