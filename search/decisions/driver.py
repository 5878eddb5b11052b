"""The decisions of a search: what is tried next, what is stopped, what is tried again, how each
trial ended.

Each is in the journal before anybody acts on it. No Ray here: Tune asks these questions in a real
search (`tuning`), and a test or a replay of recorded curves may ask them just as well. A driver
that has heard a journal's events (`replay`) decides as the one that wrote them would have.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from search.algorithms.base import Algorithm
from search.algorithms.registry import ALGORITHMS
from search.budget import Limit
from search.decisions.convergence import expected_gain, values_of
from search.decisions.shared_trainings import Relatives
from search.decisions.timing import Timing
from search.experiment import Experiment
from search.journal.journal import Event, Journal
from search.journal.result import ENDED, FAILED, UNFINISHED, SearchResult, TrialResult
from search.objectives import costs_of
from search.schedulers.base import NEW, Scheduler, Setting, Stop
from search.schedulers.registry import SCHEDULERS
from trainables.catalog.models import MODELS
from trainables.checkpoints.lineage import training_key
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.fusion.shapes import cost_key

RETRIES = {"moved": 1000, "lost": 8, "hung": 2, "memory": 1, "error": 0}
"""How often a trial is tried again after a failure of each kind: its machine is about to be taken
away, and it left after an epoch; its process or node was lost; it made no step for too long; it ran
out of memory; its own code raised. Divergence is an outcome, not a failure to be tried again, and
storage that refuses is waited for.
"""

MAX_WAITING = 50
"""Once so many trials, and one for each that may run, wait for relatives, no other is proposed; of
an algorithm that listens, which should hear of some first, one for each that may run.
"""


class Driver:
    """Answers for one search; `result` is what it knows."""

    last_word = "finished"
    """The event of its end."""
    reuses_trainings = True
    """Whether a trial waits for, and goes on from, what others train of it."""
    tracks_cost = True
    """Whether what a trial costs to use may count."""

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
        """`ago_s` is how long ago the session's command began, `start_s` how long of that it took
        to import and to start Ray.
        """
        self.experiment, self.journal, self.slots, self.clock = experiment, journal, slots, clock
        self.algorithm = self._algorithm()
        self.scheduler = self._scheduler()
        self.result = SearchResult()
        self.relatives = Relatives(experiment)
        self.costs: dict[Hashable, dict[str, Any]] = {}
        """What classifiers cost to use, where that counts."""
        self.unmeasured: set[str] = set()
        """Why it could not be measured, as it was told."""
        self.active: set[str] = set()
        """Trials that have been handed out."""
        self.pending: deque[str] = deque()
        """Trials to be handed out again, or that wait for a relative."""
        self.out_of_memory: set[str] = set()
        """Trials that ran out of memory, each of which halves how many run at once."""
        self.exhausted = False
        self.enough = ""
        """Why no further trial is worth while."""
        self.at_rung: set[str] = set()
        """Trials that have come to a rung, and of whom it is not decided whether they go on at
        once.
        """
        self.lengths: set[int] = set()
        """Of how many epochs the scheduled trials are: what those would come to that end before
        others is not told.
        """
        journal.listeners.insert(0, self.result.apply)
        self.began = clock() - ago_s
        self.timing = Timing(clock, start_s=start_s, left=self._time_left)
        self.closing: tuple[str, str] | None = None

    def _algorithm(self) -> Algorithm:
        """Who proposes params."""
        return ALGORITHMS[self.experiment.algorithm](self.experiment.space, self.experiment.seed)

    def _scheduler(self) -> Scheduler:
        """Who has trials wait."""
        experiment = self.experiment
        return SCHEDULERS[experiment.scheduler](
            Setting(experiment.horizon, experiment.space, experiment.grace, experiment.sure)
        )

    @property
    def trials(self) -> dict[str, TrialResult]:
        """The trials that are its own to hand out."""
        return self.result.trials

    @property
    def judge(self) -> str:
        """Who stops trials, by name."""
        return self.experiment.scheduler

    def replay(self, events: list[Event]) -> None:
        """Hear what a search did before it was cut off."""
        for event in events:
            self.result.apply(event)
            self._hear(event)

    def go_on(self) -> None:
        """After a replay, and with the new session in the journal: carry out what was decided but
        not written down, and line up the rest.
        """
        for trial in [trial for trial in self.trials.values() if trial.outcome in UNFINISHED]:
            if not trial.config:
                self._end(trial.trial, "failed", "its params make no valid config", kind="error")
            elif trial.stop:
                self._end(trial.trial, "stopped", trial.stop["reason"])
            elif trial.epochs and max(trial.epochs) >= TrialConfig.from_dict(trial.config).epochs:
                self._end(trial.trial, "completed", "")
            elif trial.outcome != "held":
                if (
                    trial.trial in self.at_rung and trial.was_hearing
                ):  # what is known is heard to its end
                    self._promote(trial.trial)
                if trial.trial not in self.at_rung or self._closed() or self._goes_on(trial.trial):
                    self.pending.append(trial.trial)

    def suggest(self) -> tuple[str, TrialConfig] | None:
        """A trial to train, one that was cut off before a new one; None when there is none now (see
        `over`).

        Params that make no valid config are a failed trial, and the next is asked for.
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
        if (
            not self.active and self._has_left and self.experiment.budget.time is not None
        ):  # nobody fits, and time does not come back
            self._close_for(self.experiment.budget.time)
        return None

    def _next(self) -> str:
        """A trial that goes on from its rung, or a new one, if there is time for it; none if there
        is none now.
        """
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
        """A trial, to be trained."""
        self.active.add(trial)
        return trial, TrialConfig.from_dict(self.trials[trial].config)

    def _must_wait(self, trial: str) -> bool:
        """Whether a relative trains now, or will first, what this trial needs."""
        return self.reuses_trainings and self.relatives.must_wait(
            trial, self.trials, self.active, self.pending
        )

    def beginnings(self, trial: str) -> list[dict[str, Any]]:
        """With what a trial that is handed out may begin, as `job.beginnings_of` takes it."""
        return (
            self.relatives.beginnings(trial, self.trials, self.result.training)
            if self.reuses_trainings
            else []
        )

    def milestones(self, config: TrialConfig) -> list[int]:
        """At which epochs of a trial others of its kind may end."""
        return self.relatives.milestones(config) if self.reuses_trainings else []

    def wants_cost(self, config: TrialConfig) -> bool:
        """Whether a trial that is handed out is to measure what it costs to use: where that counts,
        once for all that are alike.
        """
        return (
            self.tracks_cost
            and len(self.experiment.objectives) > 1
            and cost_key(config, config.precision) not in self.costs
        )

    def _propose(self) -> str:
        """A new trial, which is in the journal; none when there is none now."""
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
                self.journal.append("suggested", trial=trial, params=params, config={})
                self._end(trial, "failed", str(error), kind="error")
                continue
            training = training_key(config)
            self.journal.append(
                "suggested", trial=trial, stem=training, params=params, config=config.to_dict()
            )
            self._begin(trial, training)
            return trial
        return ""

    @property
    def at_once(self) -> int:
        """How many trials may run now."""
        return max(1, self.slots >> len(self.out_of_memory))

    def resize(self, slots: int, reason: str) -> None:
        """From now on so many trials run at once. Those beyond that come to their end."""
        if slots != self.slots:
            self.slots = slots
            self.journal.append("slots", count=slots, reason=reason)

    @property
    def outstanding(self) -> int:
        """How many trials run, or may still come to, at most."""
        return len(self.active) + (
            0 if self.closing else len(self.pending) + self._more + self.scheduler.ready
        )

    @property
    def _more(self) -> int:
        """How many new trials there may be."""
        return max(0, self.experiment.planned_trials - len(self.trials)) if self._has_more else 0

    @property
    def over(self) -> bool:
        """Whether there will be no further trial, not even one that must be tried again."""
        return not (self.active or self._has_left) or self._closed()

    @property
    def _has_left(self) -> bool:
        """Whether there is anything to train beside what is being trained; if not, no budget has
        ended the search.
        """
        return bool(self.pending) or self._has_more or self.scheduler.choose(new=False) is not None

    @property
    def _is_more_left(self) -> bool:
        """Whether the space has more than was tried."""
        space = self.experiment.space
        return not self.exhausted and (
            space.size is None
            or sum(space.kept(trial.params) == trial.params for trial in self.trials.values())
            < space.size
        )

    @property
    def _has_more(self) -> bool:
        """Whether a new trial will be proposed, now or once more is heard."""
        return (
            not (self.exhausted or self.enough)
            and len(self.trials) < self.experiment.planned_trials
        )

    def _has_enough(self) -> bool:
        """Whether the trials that are planned are expected to gain less than is wanted."""
        wanted, ahead = self.experiment.min_gain, self.experiment.planned_trials - len(self.trials)
        if wanted and (expected := 100 * expected_gain(values_of(self.result), ahead)) < wanted:
            reason = f"{ahead} more trials are expected to gain {expected:.2g} points of validation accuracy, less than {wanted:g} (--min-gain)"
            self.journal.append(
                "enough", reason=reason, expected=expected, wanted=wanted, ahead=ahead
            )
            self.enough = reason
        return bool(self.enough)

    @property
    def _has_more_now(self) -> bool:
        """Whether one will be, once a trial ends its epoch."""
        return self._has_more

    def running(self, trial: str, **where: Any) -> None:
        """A trial has got its slot."""
        self.timing.running(trial)
        self.journal.append("running", trial=trial, attempt=self.attempt(trial), **where)

    def attempt(self, trial: str) -> int:
        """The number, from 1, of the attempt that is handed out or runs next."""
        known = self.trials[trial]
        return known.attempt + (known.outcome != "running")

    def report(self, trial: str, report: dict[str, Any]) -> bool:
        """Hear a trial's `Report`; True when the trial is over, or paused."""
        if trial not in self.active:
            return True
        epoch, stop = report["epoch"], None
        if report.get("waiting"):
            self.journal.append("waiting", trial=trial, epoch=epoch, reason=report["waiting"])
        if report.get("restored") is not None:
            self.journal.append(
                "restored",
                trial=trial,
                epoch=epoch,
                damaged=report["restored"],
                **({"begun": report["begun"]} if report.get("begun") else {}),
            )
        if report["metrics"] and epoch not in self.trials[trial].epochs:
            if trial in self.at_rung:  # which it has passed: this was known
                self._promote(trial)
            self._weigh(trial, report.get("cost"))
            how = {name: report[name] for name in ("precision", "folds") if report.get(name)}
            self.journal.append("epoch", trial=trial, epoch=epoch, metrics=report["metrics"], **how)
            self.timing.epoch(self.trials[trial], epoch)
            self._hear_epoch(trial, epoch, report["metrics"]["val/accuracy"])
            stop = self._judge(trial, epoch)
        if report["outcome"] is not None:
            self._end(trial, report["outcome"], report["reason"])
        elif report.get("more"):
            return False  # what was trained before is heard to its end
        elif stop is not None:
            self._stop(trial, epoch, self.judge, stop)
        elif self._closed():
            self._leave(trial, epoch)
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
        """A trial's process is gone, or it raised: try it again, or end it. `traceback` is a file
        in the search's folder.
        """
        if trial not in self.active:
            return
        if traceback:
            self.journal.append("evidence", trial=trial, file=traceback, path="errors")
        retries = self.trials[trial].retries
        if retries.count(kind) >= RETRIES[kind]:
            self._end(trial, "failed", reason, kind=kind)
            return
        self.journal.append("retried", trial=trial, kind=kind, reason=reason)
        self.active.discard(trial)
        self.pending.append(trial)
        if kind == "memory":
            self.out_of_memory.add(trial)

    def close(self, by: str, reason: str) -> None:
        """Start nothing more, and let no trial go on after its epoch. The first reason given stays,
        but that a budget is used up: what it leaves to be done may still be interrupted.
        """
        if self.closing is None or (self.closing[0] == "budget" and by != "budget"):
            self.closing = (by, reason)

    def finish(self) -> None:
        """Write the search's own outcome as the last line. A trial that never told its end has
        failed, unless the search was cut off.
        """
        if self.closing is None:
            for trial in [*self.active, *self.pending]:
                self._end(trial, "failed", "it ended without a word", kind="lost")
        self.settle()
        by, reason = self.closing or (("gain", self.enough) if self.enough else ("completed", ""))
        self.journal.append(self.last_word, outcome=by, reason=reason)

    def _hear(self, event: Event) -> None:
        if event.kind == "enough":
            self._hear_enough(event)
        trial = event.data.get("trial", "")
        if trial not in self.trials:  # of the search itself, or of its selection
            return
        match event.kind:
            case "suggested":
                self.algorithm.replay(trial, event.data["params"])
                self._begin(trial, event.data.get("stem", trial))
            case "costed":
                self._hear_cost(trial, event.data["cost"])
            case "epoch":
                if (
                    trial in self.at_rung
                ):  # a journal of an earlier version does not tell who goes on
                    self._go_on(trial)
                self._hear_epoch(trial, event.data["epoch"], event.data["metrics"]["val/accuracy"])
            case "held":
                self.at_rung.discard(trial)
            case "promoted":
                self._go_on(trial)
            case "evaluated":
                self.timing.evaluated(self.trials[trial])
            case "ended":
                self._tell(trial)
            case "retried" if event.data["kind"] == "memory":
                self.out_of_memory.add(trial)

    def _hear_enough(self, event: Event) -> None:
        """It was enough, and is, unless less gain is asked for now, or more trials are planned."""
        if (
            event.data["wanted"] == self.experiment.min_gain
            and len(self.trials) + event.data["ahead"] >= self.experiment.planned_trials
        ):
            self.enough = event.data["reason"]

    def _begin(self, trial: str, training: str) -> None:
        if self._is_scheduled(trial):
            self.scheduler.images = self.result.images if self.result.started else 0
            self.scheduler.begin(trial, self.trials[trial].params, training)
            self.lengths.add(self.trials[trial].config["epochs"])

    def _weigh(self, trial: str, measured: dict[str, Any] | None) -> None:
        """Before its first epoch: what it costs to use, as it was measured first for its like."""
        known = self.trials[trial]
        if not self.tracks_cost or len(self.experiment.objectives) < 2 or known.epochs:
            return
        config = TrialConfig.from_dict(known.config)
        cost = self.costs.get(cost_key(config, config.precision), measured)
        if cost and "unknown" in cost:
            if cost["unknown"] not in self.unmeasured:
                self.unmeasured.add(cost["unknown"])
                self.journal.complain(
                    f"note: what {trial} costs to use could not be measured, so it counts as the highest ({cost['unknown']})"
                )
        elif cost:
            self.journal.append("costed", trial=trial, cost=cost)
            self._hear_cost(trial, cost)

    def _hear_cost(self, trial: str, cost: dict[str, Any]) -> None:
        with suppress(ConfigError):  # a replay may tell of a model that is no longer registered
            config = TrialConfig.from_dict(self.trials[trial].config)
            self.costs.setdefault(cost_key(config, config.precision), cost)
        costs = costs_of(self.experiment.objectives[1:], cost)
        self.algorithm.cost(trial, costs)
        if self._is_scheduled(trial):
            self.scheduler.cost(trial, costs)

    def _hear_epoch(self, trial: str, epoch: int, value: float) -> None:
        self.algorithm.report(trial, epoch, value)
        self.timing.hear(self.trials[trial], epoch)
        if self._is_scheduled(trial) and self.scheduler.on_epoch(
            trial, epoch, self.trials[trial].accuracy
        ):
            self.at_rung.add(trial)

    def _is_scheduled(self, trial: str) -> bool:
        """Whether the scheduler hears of a trial: not of a baseline, whose one epoch is its end:
        networks would be held against that at their first.

        A replay may tell of a model that is no longer registered; it counts as a network.
        """
        config = self.trials[trial].config
        model = MODELS.get(config["model"]["name"]) if config else None
        return bool(config) and (model is None or model.kind != "baseline")

    def _judge(self, trial: str, epoch: int) -> Stop | None:
        """Why a trial is to go no further, whatever the scheduler says."""
        return None

    def _goes_on(self, trial: str) -> bool:
        """Whether a trial that has come to a rung is who should train next; if not, it is held
        there.
        """
        if self.scheduler.choose(new=self._has_more_now) == trial:
            self._promote(trial)
            return True
        why = self.scheduler.why(trial)
        self.journal.append(
            "held",
            trial=trial,
            epoch=max(self.trials[trial].epochs),
            by=self.judge,
            **why.to_dict(),
        )
        self.at_rung.discard(trial)
        return False

    def _promote(self, trial: str) -> None:
        self.journal.append(
            "promoted", trial=trial, epoch=max(self.trials[trial].epochs), by=self.judge
        )
        self._go_on(trial)

    def _go_on(self, trial: str) -> None:
        self.scheduler.go_on(trial)
        self.at_rung.discard(trial)

    def settle(self) -> None:
        """The search has come to its end, and those that are held are stopped where they are. One
        that closes before may be resumed with them.
        """
        risk = self.scheduler.risk if self.closing is None or self.closing[0] in ENDED else None
        if (
            risk is not None
            and (told := asdict(risk if self._is_more_left else replace(risk, new=0.0)))
            != self.result.risk
        ):
            self.journal.append("risked", **told)
        if self.closing is None:
            held = [trial for trial in self.trials.values() if trial.outcome == "held"]
            for trial, why in [(trial, self.scheduler.why(trial.trial)) for trial in held]:
                self._stop(trial.trial, max(trial.epochs), self.judge, why)

    def _closed(self) -> bool:
        """Whether nothing goes on."""
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
        """What of the budget is used up, if so many epochs that are being trained now will be."""
        experiment = self.experiment
        if not experiment.budget.limits:
            return None
        wall_s = self._used() + self.timing.end_s
        return experiment.budget.spent(self.result, experiment.demand, wall_s=wall_s, ahead=ahead)

    def _time_left(self) -> float:
        """Seconds that the budget leaves; infinite where it does not limit them."""
        limit = self.experiment.budget.time
        return limit.amount - self._used() if limit is not None else math.inf

    def _fits(self, trial: str = "") -> bool:
        """Whether the next epoch of a trial (or the first of a new one) ends in time, as far as can
        be told from its own, and from others' first ones.
        """
        left = self._time_left()
        return (
            left == math.inf
            or self.timing.forecast(self.trials.get(trial)) + self.timing.end_s <= left
        )

    @property
    def out_of_time(self) -> bool:
        """Whether the budget's time is used up, but for what follows the evaluation."""
        return self._time_left() <= self.timing.leaving_s

    @property
    def is_late(self) -> bool:
        """Whether even that is too short for all that usually follows."""
        return self._time_left() <= self.timing.leaving_s / 2

    @property
    def interrupted(self) -> bool:
        """Whether all is to end now; when only the budget is used up, what remains to be done for
        the trials so far is done.
        """
        return self.closing is not None and self.closing[0] != "budget"

    def _used(self) -> float:
        """Seconds that this session, and those before it, have taken."""
        before = (
            sum(session.last_ms - session.began_ms for session in self.result.sessions[:-1]) / 1000
        )
        return before + self.clock() - self.began

    def _leave(self, trial: str, epoch: int) -> None:
        """When the search closes, a trial waits for a resume."""
        _, reason = self.closing or ("", "")
        self.journal.append("paused", trial=trial, epoch=epoch, reason=reason)
        self.active.discard(trial)

    def _set_aside(self, trial: str, epoch: int, reason: str) -> None:
        """The budget has nothing left for it now; it goes on if others leave something, or in a
        resume with a larger one.
        """
        self.journal.append("paused", trial=trial, epoch=epoch, reason=reason)
        self.active.discard(trial)
        self.pending.append(trial)

    def _stop(self, trial: str, epoch: int, by: str, stop: Stop) -> None:
        self.journal.append("stopped", trial=trial, epoch=epoch, by=by, **stop.to_dict())
        self._end(trial, "stopped", stop.reason)

    def _end(self, trial: str, outcome: str, reason: str, **more: Any) -> None:
        self.journal.append("ended", trial=trial, outcome=outcome, reason=reason, **more)
        self.active.discard(trial)
        self._tell(trial)

    def _tell(self, trial: str) -> None:
        """Tell the algorithm how a trial ended; and if a trial that ran out of memory did so again,
        it was not for want of room beside others.
        """
        ended = self.trials[trial]
        self.at_rung.discard(trial)
        if self._is_scheduled(trial):
            self.scheduler.end(trial, ended.outcome, ended.accuracy)
        self.algorithm.tell(
            trial,
            ended.outcome,
            ended.accuracy if ended.outcome in ("completed", "stopped") else None,
        )
        if ended.kind == "memory":
            self.out_of_memory.discard(trial)
