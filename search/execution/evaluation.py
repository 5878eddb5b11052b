"""What is measured once the last trial has ended: finished trials on the validation part, then the
best one on the test part.
"""

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import ray

from cluster.errors import NotReady, Refused
from search.decisions.driver import Driver
from search.decisions.selection_driver import RaceDriver
from search.execution.failures import last_line, reason_of
from search.execution.job import Job
from search.execution.pool import Worker, Workers
from search.experiment import Experiment
from search.journal.result import FAILED, NO_TIME, TrialResult, checkpoint_of
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError
from trainables.fusion.shapes import cost_key

Asked = TypeVar("Asked")
Tick = Callable[[], None]
LOOK_S = 0.5
"""How often is looked for answers, a signal and whether time is up, at least."""
READY_S, PATIENCE_S = 3.0, 30.0
"""How long a process takes to start, and how long is waited for others once one has."""
SELECT = "search.select"
HUNG = "its evaluation did not end within {:g} s"
MISSING, NOBODY = (
    "the checkpoint of its best epoch is missing",
    "no process lives that could evaluate it",
)


class Hung(RuntimeError):
    """A worker that evaluates says nothing any more."""


def evaluate_trials(driver: Driver, workers: Workers, *, slots: int, tick: Tick) -> None:
    """Measure each finished trial that is not yet: its best epoch on the validation part, at most
    `slots` at once, and what that costs to use. Each answer goes to the journal as it comes. Once
    time is up, only the best trial of each model is measured.

    A trial that cannot be is told, and hinders nobody.
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
    workers: Workers,
    first: list[TrialResult],
    others: list[TrialResult],
    *,
    slots: int,
    tick: Tick,
) -> None:
    """Measure those of these trials that are not measured yet, also those that wait for a resume;
    the `first` of them even if time is up.
    """
    if driver.interrupted:
        return
    evaluations = Evaluations(driver, workers, first, others, tick)
    try:
        evaluations.measure(slots)
    except ray.exceptions.RayError as error:
        evaluations.give_up(f"Ray broke off ({last_line(error)})")
    if evaluations.reasons and not driver.interrupted:
        driver.journal.append("unevaluated", reasons=evaluations.reasons)


class Evaluations:
    """Finished trials that wait for their evaluation, and workers that are ready for it."""

    def __init__(
        self,
        driver: Driver,
        workers: Workers,
        first: list[TrialResult],
        others: list[TrialResult],
        tick: Tick,
    ) -> None:
        self.driver, self.workers, self.tick = driver, workers, tick
        self.reasons: dict[str, list[str]] = {}
        """The trials that could not be evaluated, by the reason."""
        self.keys: dict[str, Hashable] = {}
        """Of each trial: those of one key cost the same to use."""
        self.costs: dict[Hashable, dict[str, Any]] = {}
        self.crew: list[Worker] = []
        self.lost: set[str] = set()
        """Trials whose worker died once."""
        self.remembered: dict[int, set[str]] = {}
        """By the worker's id the trials whose best epoch it has validated and still knows."""
        self.first = {trial.trial for trial in first}
        self.waiting: deque[TrialResult] = deque()
        for trial in (*first, *others):
            if trial.outcome in FAILED or trial.evaluation:
                continue
            self._line_up(trial)

    def _line_up(self, trial: TrialResult) -> None:
        """Have it wait, if it can be evaluated: after a change of code, what once was a config may
        be none.
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
        """Measure all that wait, while there is time."""
        if self._has_next:
            self._get_ready(slots)
            self._measure_costs()
            self._measure_trials()
        if self.driver.out_of_time:
            self.give_up(NO_TIME)

    def give_up(self, reason: str) -> None:
        """None of those that still wait can be evaluated."""
        while self.waiting:
            self._refuse(self.waiting.popleft(), reason)

    def _get_ready(self, slots: int) -> None:
        """Have workers import what an evaluation needs, before anything is timed. More than one is
        started for it only where the trials are long enough for that to pay.
        """
        most = min(slots, len(self.waiting))
        useful = 1 + int(sum(trial.best["time/epoch_s"] for trial in self.waiting) / READY_S)
        asked = {
            worker.get_ready.remote(): worker
            for worker in self.workers.crew(most, started=min(most, useful))
        }
        from search.views.page.artifacts import (
            get_ready,
        )  # this must not run beside what is timed, and is needed next

        get_ready(len(self.driver.trials))
        until = time.monotonic() + PATIENCE_S
        for found, worker in self._answers(
            asked, enough=lambda: bool(self.crew) and time.monotonic() > until
        ):
            if "damaged" not in found:
                self.crew.append(worker)
                self.workers.keep(worker)
                self.remembered[id(worker)] = set(found.get("remembered", ()))

    def _measure_costs(self) -> None:
        """Time each different network, one after another, while nothing else runs: trials of the
        same one share what is found.
        """
        measured: list[TrialResult] = []
        while self.crew and (trial := self._next()) is not None:
            key = self.keys[trial.trial]
            if key in self.costs or self._measure_cost(key, trial):
                measured.append(trial)
        self.waiting.extendleft(reversed(measured))

    def _measure_cost(self, key: Hashable, trial: TrialResult) -> bool:
        """Whether it could be."""
        worker = self.crew[0]
        for found, _ in self._answers({worker.cost.remote(*self._about(trial)): worker}):
            if "damaged" not in found:
                self.costs[key] = found["cost"]
                return True
            self._fail(trial, worker, found)
        return False

    def _measure_trials(self) -> None:
        """Measure the trials on the validation part, one a worker at a time."""
        asked: dict[Any, tuple[Worker, TrialResult]] = {}
        for worker in list(self.crew):
            self._ask(worker, asked)
        for found, (worker, trial) in self._answers(asked):
            if "damaged" in found:
                self._fail(trial, worker, found)
            else:
                self.driver.journal.append(
                    "evaluated",
                    trial=trial.trial,
                    epoch=trial.best_epoch,
                    val=found["val"],
                    cost=self.costs[self.keys[trial.trial]],
                )
            if (free := self._free(worker, asked)) is not None:
                self._ask(free, asked)
        if not self.crew:
            self.give_up(NOBODY)

    def _free(self, worker: Worker, asked: dict[Any, Any]) -> Worker | None:
        """Who takes the next trial after this worker's answer: itself. If it is gone, those that
        still work go on; once nobody does, the one that was got ready in its place.
        """
        if worker in self.crew:
            return worker
        return self.crew[0] if self.crew and not asked else None

    def _ask(self, worker: Worker, asked: dict[Any, tuple[Worker, TrialResult]]) -> None:
        """Have it measure the next trial, if there is one."""
        if (trial := self._next(worker)) is not None:
            asked[worker.validate.remote(*self._about(trial))] = worker, trial

    @property
    def _has_next(self) -> bool:
        """Whether a trial waits, and there is time for it."""
        return (
            bool(self.waiting)
            and not self.driver.interrupted
            and (self.waiting[0].trial in self.first or not self.driver.out_of_time)
        )

    def _next(self, worker: Worker | None = None) -> TrialResult | None:
        """The next trial; for a worker, one that it remembers before one that another does. None
        when there is none, or no time.
        """
        if not self._has_next:
            return None
        if (
            worker is None or self.driver.out_of_time
        ):  # nobody's turn, or only the first of all are wanted
            return self.waiting.popleft()
        mine = self.remembered.get(id(worker), set())
        others = set[str]().union(*self.remembered.values())
        chosen = min(
            self.waiting, key=lambda trial: (trial.trial not in mine, trial.trial in others)
        )
        self.waiting.remove(chosen)
        return chosen

    def _answers(
        self, asked: dict[Any, Asked], *, enough: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[dict[str, Any], Asked]]:
        """What workers say as they do (`_heard`), and who or what was asked, until there is no
        more, or enough, or the search is interrupted. Who says nothing for as long as a trial may
        make no step is `hung`.
        """
        since: dict[Any, float] = {}
        limit = self.driver.experiment.hang_timeout
        while asked and not enough() and not self.driver.interrupted:
            since = {answer: since.get(answer, time.monotonic()) for answer in asked}
            answered, silent = ray.wait(list(asked), timeout=LOOK_S)
            self.tick()
            for answer in answered:
                yield _heard(answer), asked.pop(answer)
            for answer in silent:
                if (
                    time.monotonic() - since[answer] > limit
                    and not ray.wait([answer], timeout=0)[0]
                ):
                    yield {"damaged": HUNG.format(limit), "hung": True}, asked.pop(answer)

    def _fail(self, trial: TrialResult, worker: Worker, found: dict[str, Any]) -> None:
        """The evaluation failed. If the worker died, the trial is tried once more, for it may not
        have been at fault; one that hangs is given up with its trial. If that was the last worker,
        another is got ready.
        """
        if not found.get("died") or trial.trial in self.lost:
            self._refuse(trial, found["damaged"])
        else:
            self.lost.add(trial.trial)
            self.waiting.appendleft(trial)
        if found.get("hung"):
            ray.kill(worker)
        if found.get("died") or found.get("hung"):
            self.crew.remove(worker)
        if not self.crew and self.waiting:
            fresh = self.workers.for_test()
            self.crew += [
                fresh
                for found, _ in self._answers({fresh.get_ready.remote(): fresh})
                if "damaged" not in found
            ]

    def _about(self, trial: TrialResult) -> tuple[Job, Any, int]:
        """What a worker needs to know."""
        return _job(self.driver.experiment, trial), self.workers.dataset, trial.best_epoch or 0

    def _refuse(self, trial: TrialResult, reason: str) -> None:
        self.reasons.setdefault(reason, []).append(trial.trial)


def _heard(answer: Any) -> dict[str, Any]:
    """What a worker said; `damaged` says why it could not, and `died` that it lives no more."""
    try:
        found: dict[str, Any] = ray.get(answer) or {}
        return found
    except ray.exceptions.RayTaskError as error:
        return {"damaged": last_line(error)}
    except ray.exceptions.RayError as error:
        return {"damaged": reason_of(error, "lost"), "died": True}


def _job(experiment: Experiment, trial: TrialResult) -> Job:
    return {"config": trial.config, **experiment.home.place(trial.trial)}


def evaluate_best(
    driver: Driver, dataset: Dataset, workers: Workers, *, by: str, tick: Tick
) -> None:
    """Open the test part for the best trial, once, in a worker, and write the evaluation to the
    journal; `by` is the verb that asks for it. A trial whose checkpoint is damaged is passed over
    for the next best; a resume looks again whether it still is. Sealed, it stays closed.

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
        if "test" in answer:
            driver.journal.append(
                "tested",
                trial=trial.trial,
                epoch=trial.best_epoch,
                test=answer["test"],
                passed_over=passed_over,
            )
            return
        passed_over[trial.trial] = answer["damaged"]
    if passed_over:
        first = next(iter(passed_over.values()))
        raise Refused(
            f"no trial can be tested: no checkpoint is whole (first: {first}). Bring '{driver.experiment.home}/trials' back from a copy."
        )


def evaluate_chosen(driver: RaceDriver, dataset: Dataset, workers: Workers, *, tick: Tick) -> None:
    """Open the test part for the training that was chosen. If its checkpoint is damaged, the next
    best of the same candidate takes its place.

    Raises:
        NotReady: the evaluation failed.
        Refused: none of them has a checkpoint that is whole.
    """
    selection = driver.selection
    if selection.is_tested or driver.interrupted:
        return
    candidate = selection.verdict["candidate"]
    for trial in driver.ranked(candidate):
        if (answer := _test(driver, trial, dataset, workers, tick, by=SELECT)) is None:
            return
        if "test" in answer:
            if trial is not selection.chosen:
                driver.journal.append("selected", **{**selection.verdict, "trial": trial.trial})
            driver.journal.append(
                "tested", trial=trial.trial, epoch=trial.best_epoch, test=answer["test"]
            )
            return
        driver.journal.complain(
            f"passed over: {trial.trial}, whose checkpoint is damaged: {answer['damaged']}"
        )
    raise Refused(
        f"no training of {candidate} can be tested: no checkpoint is whole. Bring '{driver.experiment.home}/trials' back from a copy."
    )


def _awaited(driver: Driver, worker: Worker, answer: Any, tick: Tick) -> Any:
    """What a worker says, once it does; None if the search is interrupted before.

    Raises:
        Hung: it says nothing for as long as a trial may make no step, and is ended.
    """
    limit, since = driver.experiment.hang_timeout, time.monotonic()
    while not ray.wait([answer], timeout=LOOK_S)[0]:
        tick()
        if driver.interrupted:
            return None
        if time.monotonic() - since > limit and not ray.wait([answer], timeout=0)[0]:
            ray.kill(worker)
            raise Hung(HUNG.format(limit))
    return ray.get(answer)


def _test(
    driver: Driver, trial: TrialResult, dataset: Dataset, workers: Workers, tick: Tick, *, by: str
) -> dict[str, Any] | None:
    """What a worker's evaluation says of a trial's best epoch, whose checkpoint must be whole; None
    if the search is interrupted meanwhile. That the test part is opened is in the journal before it
    is.
    """
    job, epoch = _job(driver.experiment, trial), trial.best_epoch or 0
    try:
        worker = workers.for_test()
        damage = _awaited(driver, worker, worker.damage.remote(job, epoch), tick)
        if damage is None or damage:
            return {"damaged": damage} if damage else None
        for (
            opening
        ) in driver.result.openings:  # each look makes the next figure a little less than new
            driver.journal.complain(f"note: the test part was opened before: {opening}")
        driver.journal.append("opened", trial=trial.trial, epoch=epoch, by=by)
        found: dict[str, Any] | None = _awaited(
            driver, worker, worker.evaluate.remote(job, dataset, epoch), tick
        )
        return found
    except (ray.exceptions.RayError, Hung) as error:
        raise NotReady(
            f"the best trial could not be tested ({last_line(error)}); its checkpoint is in {job['folder']}"
        ) from error
