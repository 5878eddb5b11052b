"""The decisions of a search: the next trial, early stopping, retries, and each trial's outcome.

Each decision is written to the journal before it is carried out. Nothing here depends on Ray: in a
real search, Tune asks the driver for decisions (`search.execution.tune`), but a test, or a replay
of recorded learning curves, can ask in the same way. After `replay`, a driver makes the same
decisions as the driver that wrote the journal would have made.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from cluster.runtime.resources import MANY
from search.decisions.policy import Decisions, MakePolicy, Record
from search.decisions.search_policy import SearchPolicy
from search.decisions.shared_trainings import OtherTrainings
from search.decisions.steering import (
    Reply,
    Standing,
    is_selecting,
    out_of_memory,
    reply_to,
    request_text,
    requested_event,
    unreadable_event,
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
from search.journal.journal import Event, Journal
from search.journal.requests import EXTEND, PAUSE, STOP, DriverRequest, Unreadable
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
from search.values.objectives import measured_keys
from search.values.wording import duration
from trainables.config import TrialConfig
from trainables.messages import Report, TrialRequest

RETRIES = {"moved": 1000, "lost": 8, "hung": 2, "memory": 1, "error": 0}
"""The maximum number of retries of a trial after failures of each kind.

- `moved`: the trial stopped after an epoch, because its machine is about to be reclaimed.
- `lost`: the trial's process or node was lost.
- `hung`: the trial made no progress for too long.
- `memory`: the trial ran out of memory.
- `error`: the trial's own code raised an exception.

Divergence is an outcome, not a failure, and is not retried. While the storage fails, trials wait
instead of failing.
"""

MAX_WAITING = 50
"""The number of trials, in addition to one per slot, that may wait for relatives.

Relatives are trials that share epochs (`search.decisions.shared_trainings`). When this number is
reached, no new trial is suggested. If the algorithm learns from results, only one trial per slot
may wait, so that results arrive before the next suggestion.
"""


MAX_UNFIT = 4
"""The number of trials that may be proposed although their first epoch does not end in time.

Near the end of a budget of time, a proposal may have a slow model, and the next one a quick one.
"""


class Driver:
    """The driver of one search: `result` is the search so far, `policy` makes the decisions."""

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
        earlier: OtherTrainings | None = None,
    ) -> None:
        """Create the driver of a search without events; `replay` adds those in the journal.

        Args:
            experiment: the search.
            journal: the journal, to which the driver writes its decisions.
            policy: creates the policy, which decides which trials exist and which continue.
            slots: the number of trials that may run at once.
            clock: a monotonic clock in seconds.
            ago_s: the seconds since the session's command started.
            start_s: how many of these seconds were spent on imports and on starting Ray.
            earlier: the trainings of earlier searches; None if they are not used.
        """
        self.journal, self.slots, self.clock = journal, slots, clock
        self.result = SearchResult()
        self.policy = policy(
            experiment,
            Record(
                self.result,
                events=journal.events,
                note=lambda text: journal.complain(text),
                earlier=earlier,
            ),
        )
        self.active: set[str] = set()
        """The trials that the executor is running or about to start."""
        self.pending: deque[str] = deque()
        """The trials that will be continued or retried, or that wait for a relative."""
        self.out_of_memory: set[str] = set()
        """The trials that ran out of memory. Each halves the number of trials that run at once."""
        journal.owner = self._take
        self.began = clock() - ago_s
        journal.count_time(clock, self.began)
        self.timing = Timing(clock, start_s=start_s, time_left=self._time_left)
        self.closing: tuple[str, str] | None = None
        """(outcome, reason) of a search that was closed (`close`); None while it is open."""
        self.room: int | None = slots
        """The number of trials for which the executor has room, regardless of --concurrency.

        None if the number varies; the executor then calls `resize`.
        """
        self.look: Callable[[], None] = lambda: None
        """Called to fetch and answer new requests."""
        self.is_done = False
        """True once only the last event of the search remains to be written."""
        self.has_trained = False
        """True once this session has nothing left to train, and evaluates its trials."""
        self._had_ended = self._has_session = self._is_settled = False
        """True if the search had ended before, once `result` has the session, once it settled."""

    @property
    def experiment(self) -> Experiment:
        """The experiment, with the changes that were made while the search ran."""
        return self.policy.experiment

    @property
    def trials(self) -> dict[str, TrialResult]:
        """The trials that this driver trains: the search's own, or those of a selection."""
        return self.policy.trials

    def _take(self, event: Event) -> None:
        """Update `result` with an event that was just written, or is about to be."""
        self.result.apply(event)
        self._has_session = True

    def count_time(self) -> None:
        """Extend the duration of the session in `result` up to now, unless the search is done."""
        if self._has_session and self.result.current_sessions and not self.is_done:
            self.result.current_sessions[-1].advance(self.journal.elapsed_ms or 0)

    def replay(self, events: list[Event]) -> None:
        """Restore the state from the events of earlier sessions."""
        for event in events:
            self.result.apply(event)
            self._receive(event.data)
        self._had_ended = self.result.has_ended

    def go_on(self) -> None:
        """Carry out the pending decisions of an interrupted session, and queue unfinished trials.

        Call it after `replay`, when the first event of the new session is in the journal.
        """
        self._carry_out(self.policy.begin())
        if (request := self.result.stopping) is not None:
            self.close("stopped", request_text(request))
        self.out_of_memory |= out_of_memory(self.trials.values())
        for trial in [trial for trial in self.trials.values() if trial.outcome in UNFINISHED]:
            if not trial.config:
                self._end(
                    trial.trial, "failed", "its params do not make a valid config", kind="error"
                )
            elif trial.stop is not None:
                self._end(trial.trial, "stopped", trial.stop.reason)
            elif trial.epochs and trial.reached >= TrialConfig.from_dict(trial.config).epochs:
                self._end(trial.trial, "completed", "")
            elif trial.stop_request is not None:
                self._stop_asked(trial)
            elif trial.outcome != "held":
                self._line_up(trial)
        self._carry_out(self.policy.follow_up())
        self._withdraw()

    def _line_up(self, trial: TrialResult) -> None:
        """Queue an interrupted trial, or hold it if it is at a rung and is not promoted."""
        # A trial reports all epochs that it inherits from a relative, without waiting at rungs.
        if self._is_at_rung(trial.trial) and trial.is_inheriting:
            self._promote(trial.trial)
        if (
            not self._is_at_rung(trial.trial)
            or self._closed()
            or self._promote_or_hold(trial.trial)
        ):
            self.pending.append(trial.trial)

    def suggest(self) -> tuple[str, TrialConfig] | None:
        """Return (name, config) of the next trial to train; None if there is none at the moment.

        None does not mean that the search has ended (see `over`). Interrupted trials come before
        new ones. If params do not make a valid config, the trial fails, and the next one is
        suggested.
        """
        if (
            not self._has_left
            or self._closed()
            or self._spent(len(self.active)) is not None
            or len(self.active) >= self.at_once
        ):
            return None
        waiting = unfit = 0
        for trial in self.pending:
            if self._must_wait(trial):
                waiting += 1
            elif self._fits(trial):
                self.pending.remove(trial)
                return self._hand_out(trial)
            else:
                unfit += not self.trials[trial].epochs
        most = self.at_once + (MAX_WAITING if self.policy.may_wait else 0)
        while waiting < most and unfit < MAX_UNFIT and (trial := self._next()):
            must_wait = self._must_wait(trial)
            if not must_wait and self._fits(trial):
                return self._hand_out(trial)
            self.pending.append(trial)
            waiting, unfit = waiting + must_wait, unfit + (not must_wait)
        # No trial fits into the remaining time, which will not become longer.
        if not self.active and self._has_left and self.experiment.budget.time is not None:
            self._close_for(self.experiment.budget.time)
        return None

    def _next(self) -> str:
        """Return a trial that continues past its rung, or a new one; empty if there is none now."""
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
        """Mark a trial as active, and return it with its config."""
        self.active.add(trial)
        return trial, TrialConfig.from_dict(self.trials[trial].config)

    def _must_wait(self, trial: str) -> bool:
        """True if a relative is training epochs that this trial needs, or will train them first."""
        return self.policy.must_wait(trial, self.active, self.pending)

    def handout(self, trial: str, config: TrialConfig) -> TrialRequest:
        """Create the request to train a trial, which is sent to the worker with the config."""
        return TrialRequest(
            attempt=self.attempt(trial),
            known=self.trials[trial].reached,
            beginnings=self.policy.beginnings(trial),
            milestones=self.policy.milestones(config),
            with_cost=self.policy.wants_cost(config),
            measures=measured_keys(self.experiment.objectives),
            mirror=self.experiment.home.place(trial).mirror,
        )

    def _propose(self) -> str:
        """Write a new trial to the journal, and return its name; empty if there is none now."""
        for event in self.policy.propose(idle=not (self.active or self.pending)):
            self._write(event)
            self._withdraw()
            if isinstance(event, Suggested) and event.config:
                return event.trial
        return ""

    def _carry_out(self, decisions: Decisions) -> None:
        """Write the decisions of the policy, and stop the pending trials that they rule out."""
        for event in decisions:
            self._write(event)
            self._withdraw()

    def _withdraw(self) -> None:
        """Stop the pending trials that the policy has ruled out."""
        while withdrawal := next(
            ((trial, stop) for trial in self.pending if (stop := self.policy.judge(trial))), None
        ):
            trial, stop = withdrawal
            self.pending.remove(trial)
            self._end(trial, "stopped", stop.reason)

    def _write(self, event: EventData) -> None:
        """Write an event to the journal, update the state, and follow up on the end of a trial."""
        self.journal.add(event)
        if isinstance(event, Ended):
            self.active.discard(event.trial)
        self._receive(event)
        if isinstance(event, Ended):
            self._carry_out(self.policy.follow_up())

    @property
    def at_once(self) -> int:
        """The number of trials that may run at once now."""
        return max(1, self.slots >> len(self.out_of_memory))

    def resize(self, slots: int, reason: str) -> None:
        """Change the number of trials that may run at once.

        If more are running, they continue, and new ones start later.
        """
        if slots != self.slots:
            self.slots = slots
            self._write(Slots(slots, reason))

    @property
    def outstanding(self) -> int:
        """An upper bound on the number of trials that run now or may still run."""
        if self.closing:
            return len(self.active)
        ready = self.policy.scheduler.ready
        return len(self.active) + len(self.pending) + self.policy.ahead + ready

    @property
    def over(self) -> bool:
        """True if the search is closed, or no trial runs and none will start, even as a retry."""
        return not (self.active or self._has_left) or self._closed()

    @property
    def _has_left(self) -> bool:
        """True if there is anything to train besides the active trials.

        If nothing is left, the search counts as complete, even if its budget is used up as well.
        """
        return (
            bool(self.pending)
            or self._has_more
            or self.policy.scheduler.choose(new=False) is not None
        )

    @property
    def _has_more(self) -> bool:
        """True if the policy will propose a new trial, now or after further results."""
        return self.policy.more_now or self.policy.more_later

    def running(self, trial: str, host: str = "") -> None:
        """Record that a trial starts to run now, on the machine named `host`."""
        self.timing.start_trial(trial)
        self._write(Running(trial, self.attempt(trial), host))

    def attempt(self, trial: str) -> int:
        """Return the number (from 1) of a trial's current attempt, or of the next one."""
        trial_result = self.trials[trial]
        return trial_result.attempt + (trial_result.outcome != "running")

    def report(self, trial: str, report: Report) -> bool:
        """Record a trial's report, and decide whether the trial continues.

        Returns:
            True if the trial must stop now. It may be continued later.
        """
        if trial not in self.active:
            return True
        epoch, stop = report.epoch, None
        if report.waiting:
            self._write(Waiting(trial, epoch, report.waiting))
        if report.restored is not None:
            self._write(Restored(trial, epoch, report.restored, report.begun))
        if report.metrics and epoch not in self.trials[trial].epochs:
            if self._is_at_rung(trial):  # it has passed the rung with inherited epochs
                self._promote(trial)
            self._carry_out(self.policy.cost(trial, report.cost))
            self._write(Epoch(trial, epoch, report.metrics, report.precision, report.folds))
            self.timing.end_epoch(self.trials[trial], epoch)
            stop = self._judge(trial)
        if report.outcome is not None:
            self._end(trial, report.outcome, report.reason)
        elif report.more:
            return False  # further inherited epochs follow
        elif stop is not None:
            self._stop(trial, epoch, stop)
        elif self._closed():
            self._leave_for_resume(trial, epoch)
        elif self._is_at_rung(trial) and not self._promote_or_hold(trial):
            self.active.discard(trial)
        elif self._spent(len(self.active) - 1) is not None:
            self._set_aside(
                trial, epoch, "the rest of the budget is reserved for the trials that are training"
            )
        elif not self._fits(trial):
            self._set_aside(
                trial,
                epoch,
                f"its next epoch would not end within the budget of {self.experiment.budget.time}",
            )
        return trial not in self.active

    def fail(self, trial: str, kind: str, reason: str, *, traceback: str = "") -> None:
        """Record a failure of a trial, then retry the trial or end it.

        Args:
            trial: the name of the trial.
            kind: the kind of failure, a key of `RETRIES`.
            reason: the reason, in words.
            traceback: the path of a file in the search's folder; empty if there is none.
        """
        if trial not in self.active:
            return
        if traceback:
            self._write(Evidence(trial, traceback, "errors"))
        if self.trials[trial].stop_request is not None:
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
        """Close the search: no trial starts, and none continues after its current epoch.

        Only the first call counts, with one exception. A search that was closed by a used-up budget
        or by a request to stop still evaluates its trials. A second call with another outcome, such
        as `interrupted`, replaces the outcome and the reason, and prevents or ends the evaluation.

        Args:
            by: the outcome of the search, such as `budget` or `interrupted`.
            reason: the reason, in words.
        """
        if self.closing is None or (self.closing[0] in OPEN and by not in OPEN):
            self.closing = (by, reason)

    def finish(self) -> None:
        """Write the last event, with the outcome of the search.

        Trials that have not reported their end count as failed, unless the search was closed.
        """
        if self.closing is None:
            for trial in [*self.active, *self.pending]:
                self._end(trial, "failed", "it ended without a report", kind="lost")
        self.settle()
        self._write(self.policy.last_word(*(self.closing or self.policy.outcome)))

    def take_up(self, request: DriverRequest | Unreadable, *, waited: bool = False) -> bool:
        """Write the reply to a request to the journal, then carry out the request.

        A request that has a reply already is ignored: it was carried out when the reply was
        written, or by `go_on`. While the search is being interrupted, all requests except a pause
        remain for the next session.

        Args:
            request: the request.
            waited: True if the request was sent before this session.

        Returns:
            False if the request must remain for a later session.
        """
        if request.id in self.result.requests:
            return True
        if isinstance(request, Unreadable):
            self._write(unreadable_event(request))
            return True
        if self.interrupted and request.action != PAUSE:
            return False
        if late := self._why_late(request, waited=waited):
            reply = Reply(Message(f"it arrived too late: {late}"), is_refused=True)
        else:
            standing = Standing(
                True,
                self.active,
                self.closing,
                not self._is_settled,
                self.room or MANY,
                len(self.out_of_memory),
            )
            reply = reply_to(request, self.experiment, self.result, standing)
        event = requested_event(request, reply)
        self._write(event)
        if not event.is_refused:
            self._do(event)
        return True

    def _why_late(self, request: DriverRequest, *, waited: bool) -> str:
        """Return the reason why a request arrived too late; empty if it did not."""
        if waited and (self._had_ended or request.action == PAUSE):
            return "the search was no longer running"
        is_over = self.is_done and not self.interrupted
        return "the search had ended" if is_over and request.action == PAUSE else ""

    def _do(self, event: Requested) -> None:
        """Carry out a request whose reply is in the journal."""
        if event.action == STOP and event.trial:
            trial = self.trials[event.trial]
            if event.trial not in self.active and not trial.ended_ms:
                self._stop_asked(trial)
        elif event.action == STOP:
            self.close("stopped", request_text(event))
        elif event.action == PAUSE:
            self.close("interrupted", request_text(event))
        elif event.action == EXTEND:
            self._extend(event)

    def _extend(self, event: Requested) -> None:
        """Change the number of trials, the budget or the concurrency, as a request asks."""
        facts = {**self.experiment.describe(), **event.changes}
        self.policy.extend(
            replace(
                self.experiment,
                trials=facts["trials"],
                budget=Budget.of(facts),
                concurrency=facts["concurrency"],
            )
        )
        # Reopen the search if its budget had closed it, unless a signal has closed it since.
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
        if self.room is not None and event.changes.keys() & {"trials", "concurrency"}:
            most = MANY if is_selecting(self.result) else max(1, self.experiment.planned_trials)
            slots = min(self.room, self.experiment.concurrency or MANY, most)
            self.resize(slots, request_text(event))

    def _receive(self, event: EventData) -> None:
        """Update the state with an event of an earlier session, or one that was just written."""
        trial = self.trials.get(getattr(event, "trial", ""))
        if trial is not None:
            match event:
                case Epoch():
                    self.timing.record_epoch(trial, event.epoch)
                case Evaluated():
                    self.timing.record_evaluation(trial)
                case Retried() if event.kind == "memory":
                    self.out_of_memory.add(trial.trial)
                case Ended() if event.kind == "memory":
                    # The trial needs too much memory by itself, so fewer trials would not help.
                    self.out_of_memory.discard(trial.trial)
        self.policy.receive(event)

    def _is_at_rung(self, trial: str) -> bool:
        return trial in self.policy.at_rung

    def _promote_or_hold(self, trial: str) -> bool:
        """Promote a trial at a rung if the scheduler chooses it as the next one; else hold it.

        Returns:
            True if it was promoted.
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
        """Stop the trials that wait at rungs, at the end of the search.

        If the search was closed early, they stay held, so that a resume can continue them. The risk
        of stopping them (`Policy.risk`) is recorded if it has changed.
        """
        self._is_settled = True
        risk = self.policy.risk if self.closing is None or self.closing[0] in ENDED else None
        if risk is not None and risk != self.result.risk:
            self._write(risk)
        if self.closing is None:
            waiting = [trial for trial in self.trials.values() if trial.outcome == "held"]
            why = self.policy.scheduler.why
            for trial, stop in [(trial, why(trial.trial)) for trial in waiting]:
                self._stop(trial.trial, trial.reached, stop)

    def _closed(self) -> bool:
        """Close the search if its budget is used up, then return True if it is closed."""
        if self.closing is None and (spent := self._spent(0)) is not None:
            self._close_for(spent)
        return self.closing is not None

    def _close_for(self, limit: Limit | None) -> None:
        """Close the search because this limit of the budget is used up."""
        reason = f"the budget of {limit} is used up"
        if limit is not None and limit is self.experiment.budget.time:
            left_s = self._time_left()
            if not any(trial.attempt or trial.outcome in FAILED for trial in self.trials.values()):
                reason += f": the start took {self._used():.0f} s"
            elif left_s >= 1:
                reason = f"the budget of {limit} is used up but for {duration(left_s)}, " + (
                    "which the end of the search takes"
                    if left_s <= self.timing.end_s
                    else "too little for another epoch and the evaluation"
                )
        self.close("budget", reason)

    def _spent(self, ahead: int) -> Limit | None:
        """Return a limit of the budget that is used up; None if there is none.

        `ahead` is the number of epochs that are being trained now, which count as done.
        """
        experiment = self.experiment
        if not experiment.budget.limits:
            return None
        wall_s = self._used() + self.timing.end_s  # `_used` updates device time, too
        return experiment.budget.spent(self.result, experiment.demand, wall_s=wall_s, ahead=ahead)

    def _time_left(self) -> float:
        """Return the remaining seconds of the budget; infinite without a limit of time."""
        limit = self.experiment.budget.time
        return limit.amount - self._used() if limit is not None else math.inf

    def _fits(self, trial: str = "") -> bool:
        """True if the next epoch of a trial, or the first of a new one, is expected to end in time.

        An empty name stands for a new trial. See `Timing.forecast`.
        """
        left_s = self._time_left()
        return (
            left_s == math.inf
            or self.timing.forecast(self.trials.get(trial)) + self.timing.end_s <= left_s
        )

    @property
    def out_of_time(self) -> bool:
        """True if the remaining time is only enough for the steps after the evaluation."""
        return self._time_left() <= self.timing.leaving_s

    @property
    def evaluation_left_s(self) -> float:
        """The seconds that remain for evaluation and test; infinite without a limit of time."""
        return self._time_left() - self.timing.leaving_s

    @property
    def is_late(self) -> bool:
        """True if the remaining time is too short even for the steps after the evaluation."""
        return self._time_left() <= self.timing.leaving_s / 2

    @property
    def interrupted(self) -> bool:
        """True if the session must end without evaluating its trials.

        False after a used-up budget or a request to stop, since trials are then still evaluated.
        """
        return self.closing is not None and self.closing[0] not in OPEN

    def _used(self) -> float:
        """Return the total duration of the search's sessions in seconds, up to now."""
        self.count_time()
        return self.result.wall_s

    def _leave_for_resume(self, trial: str, epoch: int) -> None:
        """Interrupt a trial because the search was closed; a resume continues it."""
        _, reason = self.closing or ("", "")
        self._write(Paused(trial, epoch, reason))
        self.active.discard(trial)

    def _set_aside(self, trial: str, epoch: int, reason: str) -> None:
        """Pause a trial because no budget remains for it.

        The trial continues if other trials do not need all of the budget that is reserved for them,
        or in a resume with a larger budget.
        """
        self._write(Paused(trial, epoch, reason))
        self.active.discard(trial)
        self.pending.append(trial)

    def _judge(self, trial: str) -> Stop | None:
        """Return the reason why a request or the policy stops a trial; None if neither does."""
        request = self.trials[trial].stop_request
        return Stop(request_text(request)) if request is not None else self.policy.judge(trial)

    def _stop_asked(self, trial: TrialResult) -> None:
        """Stop a trial that is not training now, because of a request."""
        if trial.trial in self.pending:
            self.pending.remove(trial.trial)
        if (stop := self._judge(trial.trial)) is not None:
            self._stop(trial.trial, trial.reached, stop)

    def _stop(self, trial: str, epoch: int, stop: Stop) -> None:
        by = self.policy.by if self.trials[trial].stop_request is None else "a request"
        self._write(Stopped(trial, epoch, by, **vars(stop)))
        self._end(trial, "stopped", stop.reason)

    def _end(self, trial: str, outcome: str, reason: str, *, kind: str = "") -> None:
        self._write(Ended(trial, outcome, reason, kind))
