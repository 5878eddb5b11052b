"""Measurements after the last trial has ended.

Finished trials are evaluated on the validation part, then the best one on the test part.
"""

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from cluster.errors import NotReady, Refused
from search.decisions.driver import Driver
from search.decisions.selection_policy import SelectionPolicy
from search.design.experiment import Experiment
from search.execution.failures import kind_of, last_line, reason_of
from search.execution.job import EvaluationReply, Job
from search.journal.events import Evaluated, Opened, Tested, Unevaluated
from search.journal.result import FAILED, NO_TIME, TrialResult, checkpoint_of
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError
from trainables.fusion.shapes import cost_key
from trainables.messages import Cost
from trainables.request import TrialRequest

Worker = Any
"""A worker that a crew hands out to be asked."""
Context = TypeVar("Context")
Tick = Callable[[], None]
LOOK_S = 0.5
"""Longest time in seconds between two checks for answers, for a signal and for the end of the
budget's time.
"""
READY_S, PATIENCE_S = 3.0, 30.0
"""Seconds that a process takes to start, and to wait for the others once one is ready."""
SELECT = "search.select"
HUNG = "its evaluation did not end within {:g} s"
MISSING, NOBODY = (
    "the checkpoint of its best epoch is missing",
    "no process lives that could evaluate it",
)


class Hung(RuntimeError):
    """A worker that evaluates gives no answer any more."""


class Crew(Protocol):
    """The processes that evaluate, which an executor has."""

    @property
    def dataset(self) -> Any:
        """The data, sealed, as the methods of a worker take them."""

    @property
    def raised(self) -> type[Exception]:
        """The error of an answer whose code raised."""

    @property
    def broken(self) -> type[Exception]:
        """The error of an answer that does not come for any reason; `raised` is one of them."""

    def crew(self, count: int, *, started: int) -> list[Worker]:
        """Return at most `count` workers, some of which may be started for it.

        There are to be `started` of them where that pays.
        """

    def for_test(self) -> Worker:
        """Return one worker."""

    def keep(self, worker: Worker) -> None:
        """Keep a worker of a crew that is ready, for what else comes after the last trial."""

    def ask(self, worker: Worker, method: str, *arguments: Any) -> Any:
        """Call a method of `process.Process`, and return the pending answer."""

    def wait(self, pending: list[Any], timeout_s: float) -> list[Any]:
        """Return those of the pending answers that are there, at the latest after this time."""

    def get(self, answer: Any) -> Any:
        """Return an answer, or raise what came of it."""

    def kill(self, worker: Worker) -> None:
        """End a worker that gives no answer any more."""


def evaluate_trials(driver: Driver, workers: Crew, *, slots: int, tick: Tick) -> None:
    """Measure each finished trial that has not been measured yet.

    Its best epoch is evaluated on the validation part, at most `slots` trials at once, and the cost
    of using it is measured. Each answer is journaled as it comes. Once time is up, only the best
    trial of each model is measured.

    A trial that cannot be measured is named in the journal and holds up no other.
    """
    first = list(driver.result.best_of_models.values())
    evaluate(
        driver,
        workers,
        first,
        [trial for trial in driver.result.ranking if trial not in first],
        slots=slots,
        tick=tick,
    )


def evaluate(
    driver: Driver,
    workers: Crew,
    first: list[TrialResult],
    rest: list[TrialResult],
    *,
    slots: int,
    tick: Tick,
) -> None:
    """Measure those of these trials that have not been measured yet.

    Trials that wait for a resume are measured too, and the `first` of them even if time is up.
    """
    if driver.interrupted:
        return
    evaluations = Evaluations(driver, workers, first, rest, tick)
    try:
        evaluations.measure(slots)
    except workers.broken as error:
        evaluations.give_up(f"the processes that evaluate broke off ({last_line(error)})")
    if evaluations.reasons and not driver.interrupted:
        driver.journal.append(Unevaluated(evaluations.reasons))


class Evaluations:
    """Finished trials that wait for their evaluation, and workers that are ready for it."""

    def __init__(
        self,
        driver: Driver,
        workers: Crew,
        first: list[TrialResult],
        rest: list[TrialResult],
        tick: Tick,
    ) -> None:
        self.driver, self.workers, self.tick = driver, workers, tick
        self.reasons: dict[str, list[str]] = {}
        """The trials that could not be evaluated, by the reason."""
        self.keys: dict[str, Hashable] = {}
        """The cost key of each trial: trials with the same key cost the same to use."""
        self.costs: dict[Hashable, Cost] = {}
        self.crew: list[Worker] = []
        self.lost: set[str] = set()
        """Trials whose worker died once."""
        self.remembered: dict[int, Set[str]] = {}
        """By the worker's id the trials whose best epoch it has validated and still remembers."""
        self.first = {trial.trial for trial in first}
        self.waiting: deque[TrialResult] = deque()
        for trial in (*first, *rest):
            if trial.outcome in FAILED or trial.evaluation:
                continue
            self._line_up(trial)

    def _line_up(self, trial: TrialResult) -> None:
        """Add a trial to those that wait, if it can be evaluated.

        After a change of the code, a config that was valid once may be refused.
        """
        if not self.driver.experiment.home.has(str(checkpoint_of(trial, Path()))):
            self._refuse(trial, MISSING)
            return
        try:
            self.keys[trial.trial] = cost_key(TrialConfig.from_dict(trial.config), trial.precision)
        except ConfigError as error:
            self._refuse(trial, str(error))
        else:
            self.waiting.append(trial)

    def measure(self, slots: int) -> None:
        """Measure all trials that wait, while there is time."""
        if self._has_next:
            self._get_ready(slots)
            self._measure_costs()
            self._measure_trials()
        if self.driver.out_of_time:
            self.give_up(NO_TIME)

    def give_up(self, reason: str) -> None:
        """Note for each trial that still waits that it cannot be evaluated, for this reason."""
        while self.waiting:
            self._refuse(self.waiting.popleft(), reason)

    def _get_ready(self, slots: int) -> None:
        """Have workers import what an evaluation needs, before anything is timed.

        More than one worker is started for it only where the trials are long enough for that to
        pay.
        """
        most = min(slots, len(self.waiting))
        useful = 1 + int(sum(trial.best["time/epoch_s"] for trial in self.waiting) / READY_S)
        pending = {
            self.workers.ask(worker, "get_ready"): worker
            for worker in self.workers.crew(most, started=min(most, useful))
        }
        # Imported now: this must not run beside what is timed, and is needed next.
        from search.views.page.artifacts import get_ready

        get_ready(len(self.driver.trials))
        until = time.monotonic() + PATIENCE_S
        died = False
        for reply, worker in self._answers(
            pending, enough=lambda: bool(self.crew) and time.monotonic() > until
        ):
            died = died or reply.died
            if reply.damaged is None:
                self.crew.append(worker)
                self.workers.keep(worker)
                self.remembered[id(worker)] = reply.remembered
        if died:
            self._replace()

    def _measure_costs(self) -> None:
        """Time each different network, one after another, while nothing else runs.

        Trials of the same network share the result.
        """
        measured: list[TrialResult] = []
        while self.crew and (trial := self._next()) is not None:
            key = self.keys[trial.trial]
            if key in self.costs or self._measure_cost(key, trial):
                measured.append(trial)
        if measured:
            self.waiting.extendleft(reversed(measured))
            self._replace()

    def _measure_cost(self, key: Hashable, trial: TrialResult) -> bool:
        """Measure what this trial's network costs to use, and return whether that succeeded."""
        worker = self.crew[0]
        answer = self.workers.ask(worker, "cost", *self._arguments(trial))
        for reply, _ in self._answers({answer: worker}):
            if reply.damaged is None:
                self.costs[key] = reply.cost
                return True
            self._fail(trial, worker, reply)
        return False

    def _measure_trials(self) -> None:
        """Measure the trials on the validation part, one at a time on each worker."""
        pending: dict[Any, tuple[Worker, TrialResult]] = {}
        for worker in list(self.crew):
            self._ask(worker, pending)
        for reply, (worker, trial) in self._answers(pending):
            if reply.damaged is not None:
                self._fail(trial, worker, reply)
            else:
                cost = self.costs[self.keys[trial.trial]]
                self.driver.journal.append(
                    Evaluated(trial.trial, trial.best_epoch or 0, reply.found, cost)
                )
            if (free := self._free(worker, pending)) is not None:
                self._ask(free, pending)
        if not self.crew:
            self.give_up(NOBODY)

    def _free(self, worker: Worker, pending: dict[Any, Any]) -> Worker | None:
        """Return the worker that takes the next trial after this worker's answer, if there is one.

        That is the worker itself. If it is gone, the other workers go on with theirs, and nobody
        takes another; once no worker is busy, the one that was made ready in its place takes the
        next.
        """
        if worker in self.crew:
            return worker
        return self.crew[0] if self.crew and not pending else None

    def _ask(self, worker: Worker, pending: dict[Any, tuple[Worker, TrialResult]]) -> None:
        """Have the worker measure the next trial, if there is one."""
        if (trial := self._next(worker)) is not None:
            answer = self.workers.ask(worker, "validate", *self._arguments(trial))
            pending[answer] = worker, trial

    @property
    def _has_next(self) -> bool:
        """True if a trial waits and there is time for it."""
        return (
            bool(self.waiting)
            and not self.driver.interrupted
            and (self.waiting[0].trial in self.first or not self.driver.out_of_time)
        )

    def _next(self, worker: Worker | None = None) -> TrialResult | None:
        """Return the next trial, or None when there is none, or no time.

        For a worker, a trial that it remembers comes first, and one that another worker remembers
        last.
        """
        if not self._has_next:
            return None
        # Out of time, only those at the front are wanted, in their order.
        if worker is None or self.driver.out_of_time:
            return self.waiting.popleft()
        mine = self.remembered.get(id(worker), set())
        elsewhere = set[str]().union(*self.remembered.values())
        chosen = min(
            self.waiting, key=lambda trial: (trial.trial not in mine, trial.trial in elsewhere)
        )
        self.waiting.remove(chosen)
        return chosen

    def _answers(
        self, pending: dict[Any, Context], *, enough: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[EvaluationReply, Context]]:
        """Yield what each worker answers (`_receive`), with what belongs to the call in `pending`.

        It ends when no answer is outstanding, when there are `enough`, or when the search is
        interrupted. A worker that gives no answer for as long as a trial may make no step is
        reported as `hung`.
        """
        since: dict[Any, float] = {}
        limit = self.driver.experiment.hang_timeout
        while pending and not enough() and not self.driver.interrupted:
            since = {answer: since.get(answer, time.monotonic()) for answer in pending}
            ready = self.workers.wait(list(pending), LOOK_S)
            self.tick()
            for answer in ready:
                yield _receive(self.workers, answer), pending.pop(answer)
            for answer in list(pending):
                if (
                    answer in since
                    and time.monotonic() - since[answer] > limit
                    and not self.workers.wait([answer], 0)
                ):
                    yield (
                        EvaluationReply(damaged=HUNG.format(limit), hung=True),
                        pending.pop(answer),
                    )

    def _fail(self, trial: TrialResult, worker: Worker, reply: EvaluationReply) -> None:
        """Deal with an evaluation that failed.

        If the worker died, the trial is tried once more, since it may not have been at fault. A
        worker that hangs is killed, and its trial is given up. If that was the last worker, another
        one is made ready.
        """
        if not reply.died or trial.trial in self.lost:
            self._refuse(trial, reply.damaged or "")
        else:
            self.lost.add(trial.trial)
            self.waiting.appendleft(trial)
        if reply.hung:
            self.workers.kill(worker)
        if reply.died or reply.hung:
            self.crew.remove(worker)
        self._replace()

    def _replace(self) -> None:
        """Make another worker ready if the last one is gone and a trial waits.

        If that one dies too, one more is started.
        """
        for _ in range(2):
            if self.crew or not self.waiting or self.driver.interrupted:
                return
            fresh = self.workers.for_test()
            for reply, _ in self._answers({self.workers.ask(fresh, "get_ready"): fresh}):
                if reply.damaged is None:
                    self.crew.append(fresh)
                if reply.hung:
                    self.workers.kill(fresh)
                    return

    def _arguments(self, trial: TrialResult) -> tuple[Job, Any, int]:
        """A trial as the methods of a worker take it: its job, the data and the best epoch."""
        return _job(self.driver.experiment, trial), self.workers.dataset, trial.best_epoch or 0

    def _refuse(self, trial: TrialResult, reason: str) -> None:
        self.reasons.setdefault(reason, []).append(trial.trial)


def _receive(workers: Crew, answer: Any) -> EvaluationReply:
    """Return a worker's answer, or why there is none."""
    try:
        reply: EvaluationReply = workers.get(answer)
        return reply
    except workers.raised as error:
        return EvaluationReply(damaged=last_line(error))
    except workers.broken as error:
        return EvaluationReply(damaged=reason_of(error, kind_of(error)), died=True)


def _job(experiment: Experiment, trial: TrialResult) -> Job:
    place = experiment.home.place(trial.trial)
    return Job(trial.trial, trial.config, place.folder, TrialRequest(mirror=place.mirror))


def evaluate_best(driver: Driver, dataset: Dataset, workers: Crew, *, by: str, tick: Tick) -> None:
    """Open the test part for the best trial, once, in a worker, and journal the evaluation.

    `by` is the verb that asks for it. A trial whose checkpoint is damaged is passed over for the
    next best; a resume checks again whether it still is. A sealed test part stays closed.

    Raises:
        NotReady: the evaluation failed; the trials' own results are not touched by that.
        Refused: no trial has a checkpoint that is whole.
    """
    result = driver.result
    if (result.is_tested and not result.passed_over) or driver.interrupted:
        return
    passed_over: dict[str, str] = {}
    for trial in result.ranking:
        if result.is_tested and trial is result.best:
            return
        if (answer := _test(driver, trial, dataset, workers, tick, by=by)) is None:
            return
        if answer.damaged is None:
            driver.journal.append(
                Tested(trial.trial, trial.best_epoch or 0, answer.found, passed_over)
            )
            return
        passed_over[trial.trial] = answer.damaged
    if passed_over:
        first = next(iter(passed_over.values()))
        raise Refused(
            f"no trial can be tested: no checkpoint is whole (first: {first}). "
            f"Bring '{driver.experiment.home}/trials' back from a copy."
        )


def evaluate_chosen(
    driver: Driver, policy: SelectionPolicy, dataset: Dataset, workers: Crew, *, tick: Tick
) -> None:
    """Open the test part for the training that was chosen.

    If its checkpoint is damaged, the next best training of the same candidate takes its place.

    Raises:
        NotReady: the evaluation failed.
        Refused: none of them has a checkpoint that is whole.
    """
    selection = policy.selection
    if selection.is_tested or driver.interrupted:
        return
    assert selection.verdict is not None
    candidate = selection.verdict.candidate
    for trial in policy.ranked(candidate):
        if (answer := _test(driver, trial, dataset, workers, tick, by=SELECT)) is None:
            return
        if answer.damaged is None:
            if trial is not selection.chosen:
                driver.journal.append(replace(selection.verdict, trial=trial.trial))
            driver.journal.append(Tested(trial.trial, trial.best_epoch or 0, answer.found))
            return
        driver.journal.complain(
            f"passed over: {trial.trial}, whose checkpoint is damaged: {answer.damaged}"
        )
    raise Refused(
        f"no training of {candidate} can be tested: no checkpoint is whole. "
        f"Bring '{driver.experiment.home}/trials' back from a copy."
    )


def _awaited(
    driver: Driver, workers: Crew, tick: Tick, worker: Worker, method: str, *arguments: Any
) -> Any:
    """Call a worker's method and return its answer, or None if the search is interrupted before.

    Raises:
        Hung: it gives no answer for as long as a trial may make no step, and is killed.
    """
    limit, since = driver.experiment.hang_timeout, time.monotonic()
    answer = workers.ask(worker, method, *arguments)
    while not workers.wait([answer], LOOK_S):
        tick()
        if driver.interrupted:
            return None
        if time.monotonic() - since > limit and not workers.wait([answer], 0):
            workers.kill(worker)
            raise Hung(HUNG.format(limit))
    return workers.get(answer)


def _test(
    driver: Driver, trial: TrialResult, dataset: Dataset, workers: Crew, tick: Tick, *, by: str
) -> EvaluationReply | None:
    """Return the evaluation of a trial's best epoch on the test part, from a worker.

    None if the search is interrupted meanwhile. The journal records that the test part is opened
    before it is. If the worker died, another one tries once more: it may not have been at fault,
    and nobody has seen what the first one found.

    Raises:
        NotReady: the workers were lost, or the last one raised or gave no answer.
    """
    job, epoch = _job(driver.experiment, trial), trial.best_epoch or 0
    is_open = has_died = False
    while True:
        try:
            worker = workers.for_test()
            damage = _awaited(driver, workers, tick, worker, "damage", job, epoch)
            if damage is None or damage or driver.interrupted:
                return EvaluationReply(damaged=damage) if damage else None
            if not is_open:
                # Each look at the test part makes the next figure from it a little less than new.
                for opening in driver.result.openings:
                    driver.journal.complain(f"note: the test part was opened before: {opening}")
                driver.journal.append(Opened(trial.trial, epoch, by))
                is_open = True
            reply: EvaluationReply | None = _awaited(
                driver, workers, tick, worker, "evaluate", job, dataset, epoch
            )
            return reply
        except (workers.broken, Hung) as error:
            if has_died or isinstance(error, (workers.raised, Hung)):
                raise NotReady(
                    f"the best trial could not be tested ({reason_of(error, kind_of(error))}); "
                    f"its checkpoint is in {job.folder}"
                ) from error
            has_died = True
