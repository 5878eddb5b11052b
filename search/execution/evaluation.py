"""Evaluation of finished trials on the validation set, and of the best one on the test set.

The evaluation starts after the last trial has ended. This module determines the order in which
workers evaluate trials, and writes the results to the journal.
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
from trainables.messages import Cost, TrialRequest

Worker = Any
"""A handle of a process that evaluates: a Ray actor, or a `Process` object in this process."""
Context = TypeVar("Context")
Tick = Callable[[], None]
LOOK_S = 0.5
"""Maximal seconds between two checks for answers, signals and the end of the time budget."""
READY_S, PATIENCE_S = 3.0, 30.0
"""`READY_S` is the typical time to start a process, in seconds. After `PATIENCE_S` seconds, the
evaluation begins with the processes that are ready.
"""
SELECT = "search.select"
HUNG = "its evaluation did not end within {:g} s"
MISSING, NOBODY = (
    "the checkpoint of its best epoch is missing",
    "no process is left to evaluate it",
)


class Hung(RuntimeError):
    """A worker did not finish an evaluation within the hang timeout."""


class Crew(Protocol):
    """The processes of an executor that evaluate."""

    @property
    def dataset(self) -> Any:
        """The data without the test set: a reference in Ray's object store, or the data itself."""

    @property
    def raised(self) -> type[Exception]:
        """The type of error that `get` raises if the called method raised an error."""

    @property
    def broken(self) -> type[Exception]:
        """The type of error that `get` raises if there is no answer.

        `raised` is this class or a subclass of it.
        """

    def crew(self, count: int, *, started: int) -> list[Worker]:
        """Return at most `count` workers for the evaluation.

        If fewer than `started` workers are alive, an executor may start more, up to this number.
        """

    def for_test(self) -> Worker:
        """Return a worker that is alive; start one if there is none."""

    def keep(self, worker: Worker) -> None:
        """Register a worker of `crew` that is ready, so that `for_test` can reuse it."""

    def ask(self, worker: Worker, method: str, *arguments: Any) -> Any:
        """Call a method of `process.Process` asynchronously, and return the pending answer."""

    def wait(self, pending: list[Any], timeout_s: float) -> list[Any]:
        """Wait for an answer, for at most `timeout_s`; return the answers that are ready."""

    def get(self, answer: Any) -> Any:
        """Return the result of a call, given its pending answer.

        Raises:
            raised: the method raised an error.
            broken: there is no answer, for instance because the worker died.
        """

    def kill(self, worker: Worker) -> None:
        """Kill a worker that no longer responds."""


def evaluate_trials(driver: Driver, workers: Crew, *, slots: int, tick: Tick) -> None:
    """Evaluate each finished trial that has no evaluation yet.

    The best epoch of each trial is evaluated on the validation set, and the cost of inference is
    measured. Each result is written to the journal as soon as it arrives. If a trial cannot be
    evaluated, the reason is recorded, and the other trials are still evaluated. If the time budget
    is used up, only the best trial of each model is evaluated.

    Args:
        driver: the driver, whose trials have ended.
        workers: the processes that evaluate.
        slots: the maximum number of trials that are evaluated at the same time.
        tick: called several times a second.
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
    """Evaluate the given trials that have no evaluation yet, except for failed ones.

    Args:
        driver: the driver, whose trials have ended.
        workers: the processes that evaluate.
        first: the trials that are evaluated first, even if the time budget is used up.
        rest: further trials, which are evaluated only within the time budget.
        slots: the maximum number of trials that are evaluated at the same time.
        tick: called several times a second.
    """
    if driver.interrupted:
        return
    evaluations = Evaluations(driver, workers, first, rest, tick)
    try:
        evaluations.measure(slots)
    except workers.broken as error:
        evaluations.give_up(f"the evaluation processes failed ({last_line(error)})")
    if evaluations.reasons and not driver.interrupted:
        driver.journal.append(Unevaluated(evaluations.reasons))


class Evaluations:
    """The queue of trials to evaluate, and the workers that evaluate them."""

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
        """Maps each reason to the trials that could not be evaluated because of it."""
        self.keys: dict[str, Hashable] = {}
        """Maps trials to their cost keys (`cost_key`). Trials with the same key have the same
        inference cost.
        """
        self.costs: dict[Hashable, Cost] = {}
        self.crew: list[Worker] = []
        self.lost: set[str] = set()
        """Trials whose evaluation failed once because the worker died."""
        self.remembered: dict[int, Set[str]] = {}
        """Maps the `id` of a worker to the trials whose validation outputs it has cached."""
        self.first = {trial.trial for trial in first}
        self.waiting: deque[TrialResult] = deque()
        for trial in (*first, *rest):
            if trial.outcome in FAILED or trial.evaluation:
                continue
            self._line_up(trial)

    def _line_up(self, trial: TrialResult) -> None:
        """Queue a trial, unless its checkpoint is missing or its config is no longer valid.

        A config may become invalid if the code has changed since it was written.
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
        """Evaluate the queued trials, at most `slots` at once, within the time budget."""
        if self._has_next:
            self._get_ready(slots)
            self._measure_costs()
            self._measure_trials()
        if self.driver.out_of_time:
            self.give_up(NO_TIME)

    def give_up(self, reason: str) -> None:
        """Remove all trials from the queue, and record the reason why they are not evaluated."""
        while self.waiting:
            self._refuse(self.waiting.popleft(), reason)

    def _get_ready(self, slots: int) -> None:
        """Start workers, and let them import the modules for evaluation before timing begins.

        Since the start of a worker takes `READY_S`, more than one is started only if there is
        enough work: one more for each `READY_S` in the sum of the queued trials' epoch times.
        """
        most = min(slots, len(self.waiting))
        useful = 1 + int(sum(trial.best["time/epoch_s"] for trial in self.waiting) / READY_S)
        pending = {
            self.workers.ask(worker, "get_ready"): worker
            for worker in self.workers.crew(most, started=min(most, useful))
        }
        # A later import would disturb the measurement of inference times.
        from search.views.page.view import import_evidence

        import_evidence()
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
        """Time the inference of each distinct network, one at a time, while nothing else runs.

        Trials with the same cost key share the result.
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
        """Measure the inference cost of a trial's network; False if that failed."""
        worker = self.crew[0]
        answer = self.workers.ask(worker, "cost", *self._arguments(trial))
        for reply, _ in self._answers({answer: worker}):
            if reply.damaged is None:
                self.costs[key] = reply.cost
                return True
            self._fail(trial, worker, reply)
        return False

    def _measure_trials(self) -> None:
        """Evaluate the queued trials on the validation set, one at a time on each worker."""
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
        """Return the worker that should evaluate the next trial after `worker` has answered.

        That is `worker` if it is alive. If it has died and other workers are busy, the result is
        None. If no other worker is busy, it is the first of the crew, which may be a replacement;
        None if the crew is empty.
        """
        if worker in self.crew:
            return worker
        return self.crew[0] if self.crew and not pending else None

    def _ask(self, worker: Worker, pending: dict[Any, tuple[Worker, TrialResult]]) -> None:
        """Start the evaluation of the next trial on this worker, if there is one."""
        if (trial := self._next(worker)) is not None:
            answer = self.workers.ask(worker, "validate", *self._arguments(trial))
            pending[answer] = worker, trial

    @property
    def _has_next(self) -> bool:
        """True if a trial is queued and may still be evaluated within the time budget."""
        return (
            bool(self.waiting)
            and not self.driver.interrupted
            and (self.waiting[0].trial in self.first or not self.driver.out_of_time)
        )

    def _next(self, worker: Worker | None = None) -> TrialResult | None:
        """Remove the next trial from the queue and return it.

        The result is None if no trial may be evaluated any more (`_has_next`). With a `worker`,
        trials whose outputs this worker has cached come first, and trials whose outputs another
        worker has cached come last.
        """
        if not self._has_next:
            return None
        # After the time budget, only the trials of `first` are taken, in their order.
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
        """Yield each reply as it arrives, with the value that belongs to it in `pending`.

        `pending` maps each pending answer to such a value, for instance the worker. The iteration
        ends when no answer is pending, when `enough()` is true, or when the search is interrupted.
        If a worker does not answer within the hang timeout, its reply has `hung` set.
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
        """Handle an evaluation that failed.

        If the worker died, the trial is queued once more, since it may not have been the cause. If
        the worker hangs, it is killed, and the trial is not evaluated. If no worker is left, a new
        one is started.
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
        """Start a worker if none is left and trials are queued; if it dies, try once more."""
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
        """Return the arguments of a worker's methods: the trial's job, the data, the best epoch."""
        return job_of(self.driver.experiment, trial), self.workers.dataset, trial.best_epoch or 0

    def _refuse(self, trial: TrialResult, reason: str) -> None:
        self.reasons.setdefault(reason, []).append(trial.trial)


def _receive(workers: Crew, answer: Any) -> EvaluationReply:
    """Return a worker's reply; if the call failed, a reply with the reason."""
    try:
        reply: EvaluationReply = workers.get(answer)
        return reply
    except workers.raised as error:
        return EvaluationReply(damaged=last_line(error))
    except workers.broken as error:
        return EvaluationReply(damaged=reason_of(error, kind_of(error)), died=True)


def job_of(experiment: Experiment, trial: TrialResult) -> Job:
    """Return the job of a trial, as a worker needs it for an evaluation."""
    place = experiment.home.place(trial.trial)
    return Job(trial.trial, trial.config, place.folder, TrialRequest(mirror=place.mirror))


def evaluate_best(driver: Driver, dataset: Dataset, workers: Crew, *, by: str, tick: Tick) -> None:
    """Evaluate the search's answer on the test set, once, and write the result to the journal.

    The answer is the ensemble of some trials, if that was chosen, or the best trial. If its
    checkpoint is damaged, the best trial, or the next best one, is evaluated instead. If the
    checkpoint is restored later, the next call evaluates the answer after all. In a search with
    `--sealed`, nothing is evaluated on the test set.

    Args:
        driver: the driver, whose trials have finished.
        dataset: the data, with the test set.
        workers: the processes that evaluate.
        by: the command that uses the test set, such as `search.run`; the journal records it.
        tick: called several times a second.

    Raises:
        NotReady: the evaluation failed; the results of the trials are not affected.
        Refused: all checkpoints are damaged.
    """
    result = driver.result
    if (result.is_tested and not result.passed_over) or driver.interrupted:
        return
    passed_over: dict[str, str] = {}
    for trial in result.candidates:
        if result.is_tested and trial is result.answer:
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
            f"no trial can be tested, because no checkpoint can be used (the first error: {first}"
            f"). Restore '{driver.experiment.home}/trials' from a backup."
        )


def evaluate_chosen(
    driver: Driver, policy: SelectionPolicy, dataset: Dataset, workers: Crew, *, tick: Tick
) -> None:
    """Evaluate the training that a selection has chosen, once, on the test set.

    If its checkpoint is damaged, the next best training of the same candidate takes its place.

    Args:
        driver: the driver of the selection.
        policy: the policy of the selection, which ranks the trainings of a candidate.
        dataset: the data, with the test set.
        workers: the processes that evaluate.
        tick: called several times a second.

    Raises:
        NotReady: the evaluation failed.
        Refused: the checkpoints of all trainings of the candidate are damaged.
    """
    selection = policy.selection
    if selection.is_tested or driver.interrupted:
        return
    assert selection.verdict is not None
    candidate = selection.verdict.candidate
    trainings = policy.ranked(candidate)
    if selection.average is not None and selection.is_average_chosen:
        trainings.insert(0, selection.average)
    for trial in trainings:
        if (answer := _test(driver, trial, dataset, workers, tick, by=SELECT)) is None:
            return
        if answer.damaged is None:
            if trial is not selection.chosen:
                driver.journal.append(replace(selection.verdict, trial=trial.trial))
            driver.journal.append(Tested(trial.trial, trial.best_epoch or 0, answer.found))
            return
        driver.journal.complain(
            f"note: {trial.trial} is not tested, because its checkpoint cannot be used: "
            f"{answer.damaged}"
        )
    raise Refused(
        f"{candidate} cannot be tested, because no checkpoint of its trainings can be used. "
        f"Restore '{driver.experiment.home}/trials' from a backup."
    )


def await_answer(
    driver: Driver, workers: Crew, tick: Tick, worker: Worker, method: str, *arguments: Any
) -> Any:
    """Call a worker's method and wait for its answer; None if the search is interrupted meanwhile.

    Raises:
        Hung: there was no answer within the hang timeout, and the worker was killed.
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
    """Evaluate the best epoch of a trial on the test set, in a worker.

    The use of the test set is recorded in the journal before it happens. If the worker dies, a
    second worker tries again. Both attempts count as one use, since the first reported no result.

    Returns:
        The evaluation, or a reply that names the damage of the checkpoint; None if the search was
        interrupted.

    Raises:
        NotReady: two workers died, or the evaluation raised an error or hung.
    """
    job, epoch = job_of(driver.experiment, trial), trial.best_epoch or 0
    is_open = has_died = False
    while True:
        try:
            worker = workers.for_test()
            damage = await_answer(driver, workers, tick, worker, "damage", job, epoch)
            if damage is None or damage or driver.interrupted:
                return EvaluationReply(damaged=damage) if damage else None
            if not is_open:
                # The results on a test set that was used before are optimistic.
                for opening in driver.result.openings:
                    driver.journal.complain(
                        f"note: the test set was already used on {opening}, so a new result may be "
                        "optimistic"
                    )
                driver.journal.append(Opened(trial.trial, epoch, by))
                is_open = True
            reply: EvaluationReply | None = await_answer(
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
