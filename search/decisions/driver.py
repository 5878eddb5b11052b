"""The decisions of a search: the next trial, early stopping, retries, and each trial's outcome.

Each decision is in the journal before anybody acts on it. Nothing here knows Ray: Tune asks these
questions in a real search (`search.execution.tune`), and a test or a replay of recorded curves may
ask them just as well. A driver that has heard a journal's events (`replay`) decides as the one that
wrote them would have.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from cluster.runtime.resources import MANY
from search.decisions.policy import Decisions, MakePolicy, Record
from search.decisions.search_policy import SearchPolicy
from search.decisions.shared_trainings import Known
from search.decisions.steering import (
    Answer,
    Standing,
    answer,
    asked_text,
    is_selecting,
    out_of_memory,
    requested,
    unread,
)
from search.decisions.timing import Timing
from search.design.budget import Budget, Limit
from search.design.experiment import Experiment
from search.journal.events import (
    Ended,
    Epoch,
    Evaluated,
    EventData,
    Evidence,
    Held,
    Paused,
    Promoted,
    Requested,
    Restored,
    Retried,
    Running,
    Slots,
    Stopped,
    Suggested,
    Waiting,
)
from search.journal.journal import Event, Journal, read
from search.journal.requests import EXTEND, PAUSE, STOP, Asked, Unreadable
from search.journal.result import (
    ENDED,
    FAILED,
    OPEN,
    UNFINISHED,
    SearchResult,
    TrialResult,
)
from search.schedulers.base import NEW, Stop
from search.values.message import Message
from trainables.config import TrialConfig
from trainables.messages import Report
from trainables.request import TrialRequest

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
    """The driver of one search; `result` is what it knows, and `policy` what it asks."""

    def __init__(
        self,
        experiment: Experiment,
        journal: Journal,
        policy: MakePolicy = SearchPolicy,
        *,
        slots: int = 10**6,
        clock: Callable[[], float] = time.monotonic,
        ago_s: float = 0.0,
        start_s: float = 0.0,
        earlier: Known | None = None,
    ) -> None:
        """Open a search that has an experiment and a journal.

        Args:
            policy: makes what decides which trials there are, and which go on.
            slots: the number of trials that may run at once.
            clock: counts seconds from any start.
            ago_s: the number of seconds since the session's command began.
            start_s: the part of them that imports and Ray's start took.
            earlier: the trainings of earlier searches; None where they are not used.
        """
        self.journal, self.slots, self.clock = journal, slots, clock
        self.result = SearchResult()
        self.policy = policy(
            experiment,
            Record(
                self.result,
                events=lambda: read(journal.path),
                note=lambda text: journal.complain(text),
                earlier=earlier,
            ),
        )
        self.active: set[str] = set()
        """Trials that have been handed out."""
        self.pending: deque[str] = deque()
        """Trials to be handed out again, or that wait for a relative."""
        self.out_of_memory: set[str] = set()
        """Trials that ran out of memory; each of them halves the number that run at once."""
        journal.listeners.insert(0, self._take)
        self.began = clock() - ago_s
        journal.count_time(clock, self.began)
        self.timing = Timing(clock, start_s=start_s, left=self._time_left)
        self.closing: tuple[str, str] | None = None
        """By whom and why the search was closed; None while it goes on."""
        self.room: int | None = slots
        """The number of trials for which the executor has room at once, whatever the search's own
        limit is; None where that changes, and the executor resizes.
        """
        self.look: Callable[[], None] = lambda: None
        """Takes up what was asked for until now."""
        self.is_done = False
        """True once nothing but the search's last event is left."""
        self.has_trained = False
        """True once nothing is left to train in this session: what was trained is evaluated."""
        self._had_ended = self._has_session = self._is_settled = False
        """True if the search, or its selection that goes on now, had ended when this session began;
        once the session's first event is in `result`; once its trials have ended.
        """

    @property
    def experiment(self) -> Experiment:
        """The search as it goes on now."""
        return self.policy.experiment

    @property
    def trials(self) -> dict[str, TrialResult]:
        """The trials that are this driver's own to hand out."""
        return self.policy.trials

    def _take(self, event: Event) -> None:
        """Take an event that has been written."""
        self.result.apply(event)
        self._has_session = True

    def count_time(self) -> None:
        """Count the time until now in `result`, until the search's last events are written."""
        if self._has_session and self.result.now and not self.is_done:
            self.result.now[-1].advance(self.journal.elapsed_ms or 0)

    def replay(self, events: list[Event]) -> None:
        """Hear what a search did before it was cut off."""
        for event in events:
            self.result.apply(event)
            self._hear(event.data)
        self._had_ended = self.result.has_ended

    def go_on(self) -> None:
        """Carry out what was decided but not written down, and line up the rest.

        Called after a replay, with the new session in the journal.
        """
        self._carry_out(self.policy.begin())
        if (asked := self.result.stopping) is not None:
            self.close("stopped", asked_text(asked))
        self.out_of_memory |= out_of_memory(self.trials.values())
        for trial in [trial for trial in self.trials.values() if trial.outcome in UNFINISHED]:
            if not trial.config:
                self._end(trial.trial, "failed", "its params make no valid config", kind="error")
            elif trial.stop is not None:
                self._end(trial.trial, "stopped", trial.stop.reason)
            elif trial.epochs and trial.reached >= TrialConfig.from_dict(trial.config).epochs:
                self._end(trial.trial, "completed", "")
            elif trial.asked is not None:
                self._stop_asked(trial)
            elif trial.outcome != "held":
                self._line_up(trial)
        self._carry_out(self.policy.follow_up())
        self._withdraw()

    def _line_up(self, trial: TrialResult) -> None:
        """Let a trial that was paused go on, unless it has come to a rung and others come first."""
        # Epochs that another trial has trained are heard to their end, past any rung.
        if self._is_at_rung(trial.trial) and trial.was_hearing:
            self._promote(trial.trial)
        if not self._is_at_rung(trial.trial) or self._closed() or self._goes_on(trial.trial):
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
        most = self.at_once + (MAX_WAITING if self.policy.may_wait else 0)
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
        scheduler = self.policy.scheduler
        choice = scheduler.choose(new=self._has_more and self._fits(), fits=self._fits)
        if choice == NEW:
            if proposed := self._propose():
                return proposed
            choice = self.policy.scheduler.choose(new=False, fits=self._fits)
        if choice is None:
            return ""
        self._promote(choice)
        return choice

    def _hand_out(self, trial: str) -> tuple[str, TrialConfig]:
        """Return a trial with its config, to be trained."""
        self.active.add(trial)
        return trial, TrialConfig.from_dict(self.trials[trial].config)

    def _must_wait(self, trial: str) -> bool:
        """Return whether another trial trains now, or will first, what this trial needs."""
        return self.policy.must_wait(trial, self.active, self.pending)

    def handout(self, trial: str, config: TrialConfig) -> TrialRequest:
        """Return what is asked of a trial that is handed out, beside its config."""
        return TrialRequest(
            attempt=self.attempt(trial),
            known=self.trials[trial].reached,
            beginnings=self.policy.beginnings(trial),
            milestones=self.policy.milestones(config),
            with_cost=self.policy.wants_cost(config),
            mirror=self.experiment.home.place(trial).mirror,
        )

    def _propose(self) -> str:
        """Return a new trial, which is in the journal; empty when there is none now."""
        for told in self.policy.propose(idle=not (self.active or self.pending)):
            self._write(told)
            self._withdraw()
            if isinstance(told, Suggested) and told.config:
                return told.trial
        return ""

    def _carry_out(self, decisions: Decisions) -> None:
        """Write what the policy decides, and end the trials that go no further by that."""
        for told in decisions:
            self._write(told)
            self._withdraw()

    def _withdraw(self) -> None:
        """End the trials that are to go no further, which do not run now."""
        while left := next(
            ((trial, stop) for trial in self.pending if (stop := self.policy.judge(trial))), None
        ):
            trial, stop = left
            self.pending.remove(trial)
            self._end(trial, "stopped", stop.reason)

    def _write(self, told: EventData) -> None:
        """Journal an event and hear it, and carry out what follows from the end of a trial."""
        self.journal.append(told)
        if isinstance(told, Ended):
            self.active.discard(told.trial)
        self._hear(told)
        if isinstance(told, Ended):
            self._carry_out(self.policy.follow_up())

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
            self._write(Slots(slots, reason))

    @property
    def outstanding(self) -> int:
        """The number of trials that run, or may still do so, at most."""
        if self.closing:
            return len(self.active)
        ready = self.policy.scheduler.ready
        return len(self.active) + len(self.pending) + self.policy.ahead + ready

    @property
    def over(self) -> bool:
        """True if there will be no further trial, not even one that must be tried again."""
        return not (self.active or self._has_left) or self._closed()

    @property
    def _has_left(self) -> bool:
        """True if there is anything to train beside what is being trained.

        If there is not, no budget has ended the search.
        """
        return (
            bool(self.pending)
            or self._has_more
            or self.policy.scheduler.choose(new=False) is not None
        )

    @property
    def _has_more(self) -> bool:
        """True if a new trial will be proposed, now or once more is heard."""
        return self.policy.more_now or self.policy.more_later

    def running(self, trial: str, host: str = "") -> None:
        """Hear that a trial has got its slot, on this host."""
        self.timing.running(trial)
        self._write(Running(trial, self.attempt(trial), host))

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
            self._write(Waiting(trial, epoch, report.waiting))
        if report.restored is not None:
            self._write(Restored(trial, epoch, report.restored, report.begun))
        if report.metrics and epoch not in self.trials[trial].epochs:
            if self._is_at_rung(trial):  # it has passed the rung with epochs trained before
                self._promote(trial)
            self._carry_out(self.policy.cost(trial, report.cost))
            self._write(Epoch(trial, epoch, report.metrics, report.precision, report.folds))
            self.timing.epoch(self.trials[trial], epoch)
            stop = self._judge(trial)
        if report.outcome is not None:
            self._end(trial, report.outcome, report.reason)
        elif report.more:
            return False  # epochs that were trained before are heard to their end
        elif stop is not None:
            self._stop(trial, epoch, stop)
        elif self._closed():
            self._leave_for_resume(trial, epoch)
        elif self._is_at_rung(trial) and not self._goes_on(trial):
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
            self._write(Evidence(trial, traceback, "errors"))
        if self.trials[trial].asked is not None:
            self._stop_asked(self.trials[trial])
            return
        retries = self.trials[trial].retries
        if retries.count(kind) >= RETRIES[kind]:
            self._end(trial, "failed", reason, kind=kind)
            return
        self._write(Retried(trial, kind, reason))
        self.active.discard(trial)
        self.pending.append(trial)

    def close(self, by: str, reason: str) -> None:
        """Start nothing more, and let no trial go on after its epoch.

        The first reason given stays, except that of a used-up budget, or of a request to stop: what
        they leave to be done may still be interrupted.
        """
        if self.closing is None or (self.closing[0] in OPEN and by not in OPEN):
            self.closing = (by, reason)

    def finish(self) -> None:
        """Write the search's own outcome as the last line.

        A trial that never told its end has failed, unless the search was cut off.
        """
        if self.closing is None:
            for trial in [*self.active, *self.pending]:
                self._end(trial, "failed", "it ended without a word", kind="lost")
        self.settle()
        self._write(self.policy.last_word(*(self.closing or self.policy.outcome)))

    def take_up(self, asked: Asked | Unreadable, *, waited: bool = False) -> bool:
        """Answer a request in the journal, then do what it asks; return False to leave it there.

        One that was answered before is not answered again: what it asks was done, or `go_on` has
        done it. While the search is broken off, it is left for the session that goes on.

        Args:
            asked: the request.
            waited: whether it was there before this session.
        """
        if asked.id in self.result.requests:
            return True
        if isinstance(asked, Unreadable):
            self._write(unread(asked))
            return True
        if self.interrupted and asked.action != PAUSE:
            return False
        if late := self._why_late(asked, waited=waited):
            found = Answer(Message(f"it came too late: {late}"), is_refused=True)
        else:
            standing = Standing(
                True,
                self.active,
                self.closing,
                not self._is_settled,
                self.room or MANY,
                len(self.out_of_memory),
            )
            found = answer(asked, self.experiment, self.result, standing)
        told = requested(asked, found)
        self._write(told)
        if not told.is_refused:
            self._do(told)
        return True

    def _why_late(self, asked: Asked, *, waited: bool) -> str:
        """Return why a request is of another time, when the search ran; empty if it is not."""
        if waited and (self._had_ended or asked.action == PAUSE):
            return "the search did not run any more"
        is_over = self.is_done and not self.interrupted
        return "the search had come to its end" if is_over and asked.action == PAUSE else ""

    def _do(self, told: Requested) -> None:
        """Do what a request asks, whose answer is in the journal."""
        if told.action == STOP and told.trial:
            trial = self.trials[told.trial]
            if told.trial not in self.active and not trial.ended_ms:
                self._stop_asked(trial)
        elif told.action == STOP:
            self.close("stopped", asked_text(told))
        elif told.action == PAUSE:
            self.close("interrupted", asked_text(told))
        elif told.action == EXTEND:
            self._extend(told)

    def _extend(self, told: Requested) -> None:
        """Go on with more trials, another budget, or another number of trials at once."""
        facts = {**self.experiment.describe(), **told.changes}
        self.policy.extend(
            replace(
                self.experiment,
                trials=facts["trials"],
                budget=Budget.of(facts),
                concurrency=facts["concurrency"],
            )
        )
        # By now a signal may have closed it too.
        if self._spent(0) is None and self.closing is not None and self.closing[0] == "budget":
            self.closing = None
            waiting = {*self.active, *self.pending}
            for trial in list(self.trials.values()):
                if (
                    trial.outcome in UNFINISHED
                    and trial.outcome != "held"
                    and trial.trial not in waiting
                ):
                    self._line_up(trial)
        if self.room is not None and told.changes.keys() & {"trials", "concurrency"}:
            most = MANY if is_selecting(self.result) else max(1, self.experiment.planned_trials)
            slots = min(self.room, self.experiment.concurrency or MANY, most)
            self.resize(slots, asked_text(told))

    def _hear(self, told: EventData) -> None:
        """Hear an event of an earlier session, or one that was just written."""
        known = self.trials.get(getattr(told, "trial", ""))
        if known is not None:
            match told:
                case Epoch():
                    self.timing.hear(known, told.epoch)
                case Evaluated():
                    self.timing.evaluated(known)
                case Retried() if told.kind == "memory":
                    self.out_of_memory.add(known.trial)
                case Ended() if told.kind == "memory":
                    # It was not for want of room beside others.
                    self.out_of_memory.discard(known.trial)
        self.policy.hear(told)

    def _is_at_rung(self, trial: str) -> bool:
        return trial in self.policy.at_rung

    def _goes_on(self, trial: str) -> bool:
        """Decide whether a trial that has come to a rung goes on, and return that.

        It does if it is the one that should train next; if not, it is held there.
        """
        if self.policy.scheduler.choose(new=self.policy.more_now) == trial:
            self._promote(trial)
            return True
        why = self.policy.scheduler.why(trial)
        self._write(Held(trial, self.trials[trial].reached, self.policy.by, **vars(why)))
        return False

    def _promote(self, trial: str) -> None:
        self._write(Promoted(trial, self.trials[trial].reached, self.policy.by))

    def settle(self) -> None:
        """Stop the trials that are held where they are, as the search has come to its end.

        A search that closes before its end may be resumed with them. What is risked by stopping
        them is recorded if it has changed.
        """
        self._is_settled = True
        risk = self.policy.risk if self.closing is None or self.closing[0] in ENDED else None
        if risk is not None and risk != self.result.risk:
            self._write(risk)
        if self.closing is None:
            held = [trial for trial in self.trials.values() if trial.outcome == "held"]
            why = self.policy.scheduler.why
            for trial, stop in [(trial, why(trial.trial)) for trial in held]:
                self._stop(trial.trial, trial.reached, stop)

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
        wall_s = self._used() + self.timing.end_s  # which counts the devices' time too
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

        When only the budget is used up, or the search is to stop, what remains to be done for the
        trials so far is done.
        """
        return self.closing is not None and self.closing[0] not in OPEN

    def _used(self) -> float:
        """Return the seconds that this session, and those before it, have taken."""
        self.count_time()
        return self.result.wall_s

    def _leave_for_resume(self, trial: str, epoch: int) -> None:
        """Pause a trial when the search closes; it waits for a resume."""
        _, reason = self.closing or ("", "")
        self._write(Paused(trial, epoch, reason))
        self.active.discard(trial)

    def _set_aside(self, trial: str, epoch: int, reason: str) -> None:
        """Pause a trial for which the budget has nothing left now.

        It goes on if others leave something, or in a resume with a larger budget.
        """
        self._write(Paused(trial, epoch, reason))
        self.active.discard(trial)
        self.pending.append(trial)

    def _judge(self, trial: str) -> Stop | None:
        """Return why a trial is to go no further, whatever the scheduler says; None if it may."""
        asked = self.trials[trial].asked
        return Stop(asked_text(asked)) if asked is not None else self.policy.judge(trial)

    def _stop_asked(self, trial: TrialResult) -> None:
        """Stop a trial that is to stop by a request, and does not train now."""
        if trial.trial in self.pending:
            self.pending.remove(trial.trial)
        if (stop := self._judge(trial.trial)) is not None:
            self._stop(trial.trial, trial.reached, stop)

    def _stop(self, trial: str, epoch: int, stop: Stop) -> None:
        by = self.policy.by if self.trials[trial].asked is None else "a request"
        self._write(Stopped(trial, epoch, by, **vars(stop)))
        self._end(trial, "stopped", stop.reason)

    def _end(self, trial: str, outcome: str, reason: str, *, kind: str = "") -> None:
        self._write(Ended(trial, outcome, reason, kind))
