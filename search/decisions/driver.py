"""The decisions of a search: the next trial, early stopping, retries, and each trial's outcome.

Each decision is in the journal before anybody acts on it. Nothing here knows Ray: Tune asks these
questions in a real search (`search.execution.tune`), and a test or a replay of recorded curves may
ask them just as well. A driver that has heard a journal's events (`replay`) decides as the one that
wrote them would have.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any

from search.algorithms.base import Algorithm
from search.algorithms.registry import ALGORITHMS
from search.budget import Limit
from search.decisions.convergence import expected_gain, values_of
from search.decisions.shared_trainings import Relatives
from search.decisions.timing import Timing
from search.experiment import Experiment
from search.journal.events import (
    Concluded,
    Costed,
    Ended,
    Enough,
    Epoch,
    Evaluated,
    EventData,
    Evidence,
    Finished,
    Held,
    Json,
    Paused,
    Promoted,
    Restored,
    Retried,
    Risked,
    Running,
    Slots,
    Stopped,
    Suggested,
    Waiting,
)
from search.journal.journal import Event, Journal
from search.journal.result import ENDED, FAILED, UNFINISHED, SearchResult, TrialResult
from search.objectives import costs_of
from search.schedulers.base import NEW, Scheduler, Setting, Stop
from search.schedulers.registry import SCHEDULERS
from search.statistics import standard_error
from trainables.catalog.models import MODELS
from trainables.checkpoints.lineage import training_key
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.fusion.shapes import cost_key
from trainables.messages import Report

RETRIES = {"moved": 1000, "lost": 8, "hung": 2, "memory": 1, "error": 0}
"""The number of times a trial is tried again after a failure of each kind.

- `moved`: its machine is about to be taken away, and it left after an epoch.
- `lost`: its process or node was lost.
- `hung`: it made no step for too long.
- `memory`: it ran out of memory.
- `error`: its own code raised.

Divergence is an outcome, not a failure to be tried again, and storage that refuses is waited for.
"""

MAX_WAITING = 50
"""The number of waiting trials at which no other is proposed, beside one for each slot.

They wait for relatives. An algorithm that listens should hear of some trials first: for it, the
number is just one for each that may run.
"""


class Driver:
    """The driver of one search, which makes its decisions; `result` is what it knows."""

    last_word: type[Finished | Concluded] = Finished
    """The event that ends the search."""
    reuses_trainings = True
    """True if a trial waits for, and goes on from, what others train of it."""
    tracks_cost = True
    """True if what a trial costs to use may count."""

    def __init__(
        self,
        experiment: Experiment,
        journal: Journal,
        *,
        slots: int = 10**6,
        clock: Callable[[], float] = time.monotonic,
        ago_s: float = 0.0,
        start_s: float = 0.0,
    ) -> None:
        """Open a search that has an experiment and a journal.

        `ago_s` is the number of seconds since the session's command began, and `start_s` the part
        of them that imports and Ray's start took.
        """
        self.experiment, self.journal, self.slots, self.clock = experiment, journal, slots, clock
        self.metric = experiment.base.ranked_by
        """By which trials are ranked, stopped and chosen."""
        self._errors: dict[float, float] = {}
        """The standard errors of the scores that were heard."""
        self.algorithm = self._algorithm()
        self.scheduler = self._scheduler()
        self.result = SearchResult()
        self.relatives = Relatives(experiment)
        self.costs: dict[Hashable, Json] = {}
        """The measured cost of using a classifier, once for all that are alike, where it counts."""
        self.unmeasured: set[str] = set()
        """The reasons, as told, that a cost could not be measured."""
        self.active: set[str] = set()
        """Trials that have been handed out."""
        self.pending: deque[str] = deque()
        """Trials to be handed out again, or that wait for a relative."""
        self.out_of_memory: set[str] = set()
        """Trials that ran out of memory; each of them halves the number that run at once."""
        self.exhausted = False
        """True once the algorithm has nothing more to propose."""
        self.enough = ""
        """The reason that no further trial is worth while; empty if one is."""
        self.at_rung: set[str] = set()
        """Trials that have come to a rung, until it is decided whether they go on at once."""
        self.lengths: set[int] = set()
        """The numbers of epochs of the scheduled trials.

        If there are several, the algorithm is not told what trials would come to, since some end
        before others.
        """
        journal.listeners.insert(0, self.result.apply)
        self.began = clock() - ago_s
        self.timing = Timing(clock, start_s=start_s, left=self._time_left)
        self.closing: tuple[str, str] | None = None
        """By whom and why the search was closed; None while it goes on."""

    def _algorithm(self) -> Algorithm:
        """Return the algorithm that proposes params."""
        found = ALGORITHMS[self.experiment.algorithm](self.experiment.space, self.experiment.seed)
        found.metric = self.metric
        return found

    def _scheduler(self) -> Scheduler:
        """Return the scheduler that holds trials at rungs."""
        experiment = self.experiment
        found = SCHEDULERS[experiment.scheduler](
            Setting(experiment.horizon, experiment.space, experiment.grace, experiment.sure)
        )
        found.error_of = self._error_of  # type: ignore[method-assign]
        return found

    @property
    def trials(self) -> dict[str, TrialResult]:
        """The trials that are this driver's own to hand out."""
        return self.result.trials

    @property
    def judge(self) -> str:
        """The name of what stops trials early."""
        return self.experiment.scheduler

    def replay(self, events: list[Event]) -> None:
        """Hear what a search did before it was cut off."""
        for event in events:
            self.result.apply(event)
            self._hear(event.data)

    def go_on(self) -> None:
        """Carry out what was decided but not written down, and line up the rest.

        Called after a replay, with the new session in the journal.
        """
        for trial in [trial for trial in self.trials.values() if trial.outcome in UNFINISHED]:
            if not trial.config:
                self._end(trial.trial, "failed", "its params make no valid config", kind="error")
            elif trial.stop is not None:
                self._end(trial.trial, "stopped", trial.stop.reason)
            elif trial.epochs and max(trial.epochs) >= TrialConfig.from_dict(trial.config).epochs:
                self._end(trial.trial, "completed", "")
            elif trial.outcome != "held":
                # Epochs that another trial has trained are heard to their end, past any rung.
                if trial.trial in self.at_rung and trial.was_hearing:
                    self._promote(trial.trial)
                if trial.trial not in self.at_rung or self._closed() or self._goes_on(trial.trial):
                    self.pending.append(trial.trial)

    def suggest(self) -> tuple[str, TrialConfig] | None:
        """Return a trial to train; None when there is none now (see `over`).

        One that was cut off comes before a new one. Params that make no valid config are a failed
        trial, and the next is asked for.
        """
        if (
            not self._has_left
            or self._closed()
            or self._spent(len(self.active)) is not None
            or len(self.active) >= self.at_once
        ):
            return None
        waiting = 0
        for trial in self.pending:
            if self._must_wait(trial):
                waiting += 1
            elif self._fits(trial):
                self.pending.remove(trial)
                return self._hand_out(trial)
        most = self.at_once + (0 if self.algorithm.listens else MAX_WAITING)
        while waiting < most and (trial := self._next()):
            must_wait = self._must_wait(trial)
            if not must_wait and self._fits(trial):
                return self._hand_out(trial)
            self.pending.append(trial)
            waiting += must_wait
        # No trial fits into the time that is left, and time does not come back.
        if not self.active and self._has_left and self.experiment.budget.time is not None:
            self._close_for(self.experiment.budget.time)
        return None

    def _next(self) -> str:
        """Return a trial that goes on from its rung, or a new one; empty if there is no time."""
        choice = self.scheduler.choose(new=self._has_more and self._fits(), fits=self._fits)
        if choice == NEW:
            if proposed := self._propose():
                return proposed
            choice = self.scheduler.choose(new=False, fits=self._fits)
        if choice is None:
            return ""
        self._promote(choice)
        return choice

    def _hand_out(self, trial: str) -> tuple[str, TrialConfig]:
        """Return a trial with its config, to be trained."""
        self.active.add(trial)
        return trial, TrialConfig.from_dict(self.trials[trial].config)

    def _must_wait(self, trial: str) -> bool:
        """Return whether a relative trains now, or will first, what this trial needs."""
        return self.reuses_trainings and self.relatives.must_wait(
            trial, self.trials, self.active, self.pending
        )

    def beginnings(self, trial: str) -> list[dict[str, Any]]:
        """Return the warm start sources of a trial that is handed out.

        They are as `job.beginnings_of` takes them.
        """
        return (
            self.relatives.beginnings(trial, self.trials, self.result.training)
            if self.reuses_trainings
            else []
        )

    def milestones(self, config: TrialConfig) -> list[int]:
        """Return the epochs of a trial at which others of the same training may end."""
        return self.relatives.milestones(config) if self.reuses_trainings else []

    def handout(self, trial: str, config: TrialConfig) -> dict[str, Any]:
        """Return what a trial that is handed out goes with, beside its config.

        The names are those of `job.make_job`.
        """
        return {
            "attempt": self.attempt(trial),
            "known": max(self.trials[trial].epochs, default=0),
            "beginnings": self.beginnings(trial),
            "milestones": self.milestones(config),
            "with_cost": self.wants_cost(config),
            "download": self.experiment.download,
        }

    def wants_cost(self, config: TrialConfig) -> bool:
        """Return whether a trial that is handed out is to measure what it costs to use.

        It is where that counts, once for all trials that are alike.
        """
        return (
            self.tracks_cost
            and len(self.experiment.objectives) > 1
            and cost_key(config, config.precision) not in self.costs
        )

    def _propose(self) -> str:
        """Return a new trial, which is in the journal; empty when there is none now."""
        while self._has_more_now and not self._has_enough():
            trial = f"t{len(self.trials) + 1:04d}"
            if self.algorithm.listens:
                self.algorithm.expect(self.scheduler.expected if len(self.lengths) == 1 else {})
            params = self.algorithm.ask(trial)
            if params is None:
                self.exhausted = True
                break
            try:
                config = self.experiment.config(params)
            except ConfigError as error:
                self.journal.append(Suggested(trial=trial, params=params, config={}))
                self._end(trial, "failed", str(error), kind="error")
                continue
            training = training_key(config)
            self.journal.append(
                Suggested(trial=trial, stem=training, params=params, config=config.to_dict())
            )
            self._begin(trial, training)
            return trial
        return ""

    @property
    def at_once(self) -> int:
        """The number of trials that may run now."""
        return max(1, self.slots >> len(self.out_of_memory))

    def resize(self, slots: int, reason: str) -> None:
        """Let this number of trials run at once from now on.

        Those beyond that come to their end.
        """
        if slots != self.slots:
            self.slots = slots
            self.journal.append(Slots(slots, reason))

    @property
    def outstanding(self) -> int:
        """The number of trials that run, or may still do so, at most."""
        return len(self.active) + (
            0 if self.closing else len(self.pending) + self._more + self.scheduler.ready
        )

    @property
    def _more(self) -> int:
        """The number of new trials that there may be."""
        return max(0, self.experiment.planned_trials - len(self.trials)) if self._has_more else 0

    @property
    def over(self) -> bool:
        """True if there will be no further trial, not even one that must be tried again."""
        return not (self.active or self._has_left) or self._closed()

    @property
    def _has_left(self) -> bool:
        """True if there is anything to train beside what is being trained.

        If there is not, no budget has ended the search.
        """
        return bool(self.pending) or self._has_more or self.scheduler.choose(new=False) is not None

    @property
    def _is_more_left(self) -> bool:
        """True if the space has more than was tried."""
        space = self.experiment.space
        return not self.exhausted and (
            space.size is None
            or sum(space.kept(trial.params) == trial.params for trial in self.trials.values())
            < space.size
        )

    @property
    def _has_more(self) -> bool:
        """True if a new trial will be proposed, now or once more is heard."""
        return (
            not (self.exhausted or self.enough)
            and len(self.trials) < self.experiment.planned_trials
        )

    def _has_enough(self) -> bool:
        """Return whether the planned trials are expected to gain less than is wanted."""
        wanted, ahead = self.experiment.min_gain, self.experiment.planned_trials - len(self.trials)
        unit, words = (100, "points of ") if self.metric.is_fraction else (1, "")
        if wanted and (expected := unit * expected_gain(values_of(self.result), ahead)) < wanted:
            reason = (
                f"{ahead} more trials are expected to gain {expected:.2g} {words}validation "
                f"{self.metric.title}, less than {wanted:g} (--min-gain)"
            )
            self.journal.append(Enough(reason, expected, wanted, ahead))
            self.enough = reason
        return bool(self.enough)

    @property
    def _has_more_now(self) -> bool:
        """True if a new trial can be proposed now."""
        return self._has_more

    def running(self, trial: str, host: str = "") -> None:
        """Hear that a trial has got its slot, on this host."""
        self.timing.running(trial)
        self.journal.append(Running(trial, self.attempt(trial), host))

    def attempt(self, trial: str) -> int:
        """Return the number, from 1, of the attempt that is handed out or runs next."""
        known = self.trials[trial]
        return known.attempt + (known.outcome != "running")

    def report(self, trial: str, report: Report) -> bool:
        """Hear a trial's report; return True when the trial is over, or paused."""
        if trial not in self.active:
            return True
        epoch, stop = report.epoch, None
        if report.waiting:
            self.journal.append(Waiting(trial, epoch, report.waiting))
        if report.restored is not None:
            self.journal.append(Restored(trial, epoch, report.restored, report.begun))
        if report.metrics and epoch not in self.trials[trial].epochs:
            if trial in self.at_rung:  # it has passed the rung with epochs trained before
                self._promote(trial)
            self._record_cost(trial, report.cost)
            self.journal.append(Epoch(trial, epoch, report.metrics, report.precision, report.folds))
            self.timing.epoch(self.trials[trial], epoch)
            self._hear_epoch(trial, epoch, report.metrics)
            stop = self._judge(trial, epoch)
        if report.outcome is not None:
            self._end(trial, report.outcome, report.reason)
        elif report.more:
            return False  # epochs that were trained before are heard to their end
        elif stop is not None:
            self._stop(trial, epoch, self.judge, stop)
        elif self._closed():
            self._leave_for_resume(trial, epoch)
        elif trial in self.at_rung and not self._goes_on(trial):
            self.active.discard(trial)
        elif self._spent(len(self.active) - 1) is not None:
            self._set_aside(
                trial, epoch, "the rest of the budget is for the trials that train beside it"
            )
        elif not self._fits(trial):
            self._set_aside(
                trial,
                epoch,
                f"its next epoch would not end within the budget of {self.experiment.budget.time}",
            )
        return trial not in self.active

    def fail(self, trial: str, kind: str, reason: str, *, traceback: str = "") -> None:
        """Hear that a trial's process is gone, or that it raised: try it again, or end it.

        `traceback` is a file in the search's folder.
        """
        if trial not in self.active:
            return
        if traceback:
            self.journal.append(Evidence(trial, traceback, "errors"))
        retries = self.trials[trial].retries
        if retries.count(kind) >= RETRIES[kind]:
            self._end(trial, "failed", reason, kind=kind)
            return
        self.journal.append(Retried(trial, kind, reason))
        self.active.discard(trial)
        self.pending.append(trial)
        if kind == "memory":
            self.out_of_memory.add(trial)

    def close(self, by: str, reason: str) -> None:
        """Start nothing more, and let no trial go on after its epoch.

        The first reason given stays, except that of a used-up budget: what the budget leaves to be
        done may still be interrupted.
        """
        if self.closing is None or (self.closing[0] == "budget" and by != "budget"):
            self.closing = (by, reason)

    def finish(self) -> None:
        """Write the search's own outcome as the last line.

        A trial that never told its end has failed, unless the search was cut off.
        """
        if self.closing is None:
            for trial in [*self.active, *self.pending]:
                self._end(trial, "failed", "it ended without a word", kind="lost")
        self.settle()
        by, reason = self.closing or (("gain", self.enough) if self.enough else ("completed", ""))
        self.journal.append(self.last_word(by, reason))

    def _hear(self, data: EventData) -> None:
        if isinstance(data, Enough):
            self._hear_enough(data)
        trial = getattr(data, "trial", "")
        if trial not in self.trials:  # an event of the search itself, or of its selection
            return
        match data:
            case Suggested():
                self.algorithm.replay(trial, data.params)
                self._begin(trial, data.stem or trial)
            case Costed():
                self._hear_cost(trial, data.cost)
            case Epoch():
                # A journal of an earlier version does not say which trials were promoted.
                if trial in self.at_rung:
                    self._go_on(trial)
                self._hear_epoch(trial, data.epoch, data.metrics)
            case Held():
                self.at_rung.discard(trial)
            case Promoted():
                self._go_on(trial)
            case Evaluated():
                self.timing.evaluated(self.trials[trial])
            case Ended():
                self._tell(trial)
            case Retried() if data.kind == "memory":
                self.out_of_memory.add(trial)

    def _hear_enough(self, told: Enough) -> None:
        """Hear that further trials were not worth while.

        That still holds unless less gain is asked for now, or more trials are planned.
        """
        if (
            told.wanted == self.experiment.min_gain
            and len(self.trials) + told.ahead >= self.experiment.planned_trials
        ):
            self.enough = told.reason

    def _begin(self, trial: str, training: str) -> None:
        if self._is_scheduled(trial):
            self.scheduler.begin(trial, self.trials[trial].params, training)
            self.lengths.add(self.trials[trial].config["epochs"])

    def _record_cost(self, trial: str, measured: Json | None) -> None:
        """Record what a trial costs to use, before its first epoch.

        It is the cost that was measured first, of all trials that are alike.
        """
        known = self.trials[trial]
        if not self.tracks_cost or len(self.experiment.objectives) < 2 or known.epochs:
            return
        config = TrialConfig.from_dict(known.config)
        cost = self.costs.get(cost_key(config, config.precision), measured)
        if cost and "unknown" in cost:
            if cost["unknown"] not in self.unmeasured:
                self.unmeasured.add(cost["unknown"])
                self.journal.complain(
                    f"note: what {trial} costs to use could not be measured, so it counts as the "
                    f"highest ({cost['unknown']})"
                )
        elif cost:
            self.journal.append(Costed(trial, cost))
            self._hear_cost(trial, cost)

    def _hear_cost(self, trial: str, cost: Json) -> None:
        with suppress(ConfigError):  # a replay may tell of a model that is no longer registered
            config = TrialConfig.from_dict(self.trials[trial].config)
            self.costs.setdefault(cost_key(config, config.precision), cost)
        costs = costs_of(self.experiment.objectives[1:], cost)
        self.algorithm.cost(trial, costs)
        if self._is_scheduled(trial):
            self.scheduler.cost(trial, costs)

    def _hear_epoch(self, trial: str, epoch: int, metrics: dict[str, float]) -> None:
        score = self.metric.score_of(metrics)
        self._errors[score] = metrics.get(self.metric.error_key, 0.0)
        self.algorithm.report(trial, epoch, score)
        self.timing.hear(self.trials[trial], epoch)
        if self._is_scheduled(trial) and self.scheduler.on_epoch(
            trial, epoch, self.trials[trial].score
        ):
            self.at_rung.add(trial)

    def _error_of(self, value: float) -> float:
        """Return the standard error of a score that was heard; 0 where it is not known."""
        if not self.metric.is_share:
            return self._errors.get(value, 0.0)
        images = self.result.images if self.result.started.data else 0
        return standard_error(value, images) if images else 0.0

    def _is_scheduled(self, trial: str) -> bool:
        """Return whether the scheduler hears of a trial.

        It does not hear of a baseline, whose one epoch is its end: networks would be compared with
        that at their first epoch. A replay may tell of a model that is no longer registered; it
        counts as a network.
        """
        config = self.trials[trial].config
        model = MODELS.get(config["model"]["name"]) if config else None
        return bool(config) and (model is None or model.kind != "baseline")

    def _judge(self, trial: str, epoch: int) -> Stop | None:
        """Return why a trial is to go no further, whatever the scheduler says; None if it may."""
        return None

    def _goes_on(self, trial: str) -> bool:
        """Decide whether a trial that has come to a rung goes on, and return that.

        It does if it is the one that should train next; if not, it is held there.
        """
        if self.scheduler.choose(new=self._has_more_now) == trial:
            self._promote(trial)
            return True
        why = self.scheduler.why(trial)
        self.journal.append(Held(trial, self.trials[trial].reached, self.judge, **vars(why)))
        self.at_rung.discard(trial)
        return False

    def _promote(self, trial: str) -> None:
        self.journal.append(Promoted(trial, self.trials[trial].reached, self.judge))
        self._go_on(trial)

    def _go_on(self, trial: str) -> None:
        self.scheduler.go_on(trial)
        self.at_rung.discard(trial)

    def settle(self) -> None:
        """Stop the trials that are held where they are, as the search has come to its end.

        A search that closes before its end may be resumed with them. What is risked by stopping
        them is recorded if it has changed.
        """
        risk = self.scheduler.risk if self.closing is None or self.closing[0] in ENDED else None
        if (
            risk is not None
            and (told := Risked(risk.chance, risk.epochs, risk.new if self._is_more_left else 0.0))
            != self.result.risk
        ):
            self.journal.append(told)
        if self.closing is None:
            held = [trial for trial in self.trials.values() if trial.outcome == "held"]
            for trial, why in [(trial, self.scheduler.why(trial.trial)) for trial in held]:
                self._stop(trial.trial, max(trial.epochs), self.judge, why)

    def _closed(self) -> bool:
        """Return whether the search is closed, after a look at the budget."""
        if self.closing is None and (spent := self._spent(0)) is not None:
            self._close_for(spent)
        return self.closing is not None

    def _close_for(self, limit: Limit | None) -> None:
        """Close because this limit leaves nothing for another epoch."""
        kept = ""
        if limit is not None and limit is self.experiment.budget.time:
            left = self._time_left()
            if not any(trial.attempt or trial.outcome in FAILED for trial in self.trials.values()):
                kept = f": the start took {self._used():.0f} s"
            elif left >= 1:
                kept = f", but for {left:.0f} s" + (
                    " that the search's end takes"
                    if left <= self.timing.end_s
                    else ", too few for another epoch"
                )
        self.close("budget", f"the budget of {limit} is used up{kept}")

    def _spent(self, ahead: int) -> Limit | None:
        """Return the limit of the budget that is used up; None if there is none.

        `ahead` is the number of epochs that are being trained now, which count as done.
        """
        experiment = self.experiment
        if not experiment.budget.limits:
            return None
        wall_s = self._used() + self.timing.end_s
        return experiment.budget.spent(self.result, experiment.demand, wall_s=wall_s, ahead=ahead)

    def _time_left(self) -> float:
        """Return the seconds that the budget leaves; infinite where it does not limit them."""
        limit = self.experiment.budget.time
        return limit.amount - self._used() if limit is not None else math.inf

    def _fits(self, trial: str = "") -> bool:
        """Return whether the next epoch of a trial, or the first of a new one, ends in time.

        It is forecast from the trial's own epochs, or from others' first ones.
        """
        left = self._time_left()
        return (
            left == math.inf
            or self.timing.forecast(self.trials.get(trial)) + self.timing.end_s <= left
        )

    @property
    def out_of_time(self) -> bool:
        """True if the budget's time is used up, except for what follows the evaluation."""
        return self._time_left() <= self.timing.leaving_s

    @property
    def is_late(self) -> bool:
        """True if even that is too short for all that usually follows."""
        return self._time_left() <= self.timing.leaving_s / 2

    @property
    def interrupted(self) -> bool:
        """True if everything is to end now.

        When only the budget is used up, what remains to be done for the trials so far is done.
        """
        return self.closing is not None and self.closing[0] != "budget"

    def _used(self) -> float:
        """Return the seconds that this session, and those before it, have taken."""
        before = (
            sum(session.last_ms - session.began_ms for session in self.result.sessions[:-1]) / 1000
        )
        return before + self.clock() - self.began

    def _leave_for_resume(self, trial: str, epoch: int) -> None:
        """Pause a trial when the search closes; it waits for a resume."""
        _, reason = self.closing or ("", "")
        self.journal.append(Paused(trial, epoch, reason))
        self.active.discard(trial)

    def _set_aside(self, trial: str, epoch: int, reason: str) -> None:
        """Pause a trial for which the budget has nothing left now.

        It goes on if others leave something, or in a resume with a larger budget.
        """
        self.journal.append(Paused(trial, epoch, reason))
        self.active.discard(trial)
        self.pending.append(trial)

    def _stop(self, trial: str, epoch: int, by: str, stop: Stop) -> None:
        self.journal.append(Stopped(trial, epoch, by, **vars(stop)))
        self._end(trial, "stopped", stop.reason)

    def _end(self, trial: str, outcome: str, reason: str, *, kind: str = "") -> None:
        self.journal.append(Ended(trial, outcome, reason, kind))
        self.active.discard(trial)
        self._tell(trial)

    def _tell(self, trial: str) -> None:
        """Tell the scheduler and the algorithm how a trial ended.

        If a trial that ran out of memory did so again, it was not for want of room beside others,
        and no longer lowers the number that run at once.
        """
        ended = self.trials[trial]
        self.at_rung.discard(trial)
        if self._is_scheduled(trial):
            self.scheduler.end(trial, ended.outcome, ended.score)
        self.algorithm.tell(
            trial,
            ended.outcome,
            ended.score if ended.outcome in ("completed", "stopped") else None,
        )
        if ended.kind == "memory":
            self.out_of_memory.discard(trial)
