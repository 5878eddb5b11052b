"""The choice of trials to evaluate once the last has ended, and what is said of the others.

No worker is needed for those.
"""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.errors import NotReady
from search.decisions.driver import Driver
from search.design.budget import Budget, limit
from search.design.experiment import Experiment
from search.execution import evaluation as evaluating
from search.execution.evaluation import MISSING, Evaluations, evaluate_best, evaluate_trials
from search.execution.job import EvaluationReply
from search.journal.events import Evaluated
from search.journal.result import NO_TIME, checkpoint_of
from search.views.page import view
from tests.support.played import OpenDriver, changed, evaluation, play

NOBODY: Any = None


def ended(driver: Driver) -> Driver:
    """The same, its trials played to their ends, with a folder where each one's checkpoint would
    be.
    """
    for trial in play(driver).result.ranking:
        checkpoint_of(trial, driver.experiment.folder).mkdir(parents=True)
    return driver


def evaluated(driver: Driver) -> dict[str, list[str]]:
    """The trials that could not be, by the reason."""
    evaluate_trials(driver, NOBODY, slots=2, tick=lambda: None)
    return driver.result.unevaluated


def evaluate_those(driver: Driver, *trials: str) -> None:
    for trial in trials:
        driver.journal.append(
            Evaluated(trial=trial, epoch=driver.result.trials[trial].best_epoch, **evaluation())
        )


def test_a_config_that_is_none_any_more_is_told_and_hinders_nobody(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = ended(open_driver(changed(experiment, trials=3)))
    first, second, third = driver.result.ranking
    evaluate_those(driver, first.trial)
    second.config = {**second.config, "optimizer": {**second.config["optimizer"], "name": "gone"}}
    checkpoint_of(third, driver.experiment.folder).rmdir()
    reasons = evaluated(driver)
    assert reasons.pop(MISSING) == [third.trial]
    ((reason, trials),) = reasons.items()
    assert "gone" in reason
    assert trials == [second.trial]


def test_what_there_is_no_time_for_is_told(open_driver: OpenDriver, experiment: Experiment) -> None:
    now = [0.0]
    driver = ended(
        open_driver(
            changed(experiment, trials=3, budget=Budget((limit("60s"),))), clock=lambda: now[0]
        )
    )
    best, *others = driver.result.ranking
    evaluate_those(driver, best.trial)
    now[0] = 61
    assert evaluated(driver) == {NO_TIME: [trial.trial for trial in others]}


def test_when_time_is_up_those_of_whom_it_is_wanted_are_evaluated_all_the_same(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    """Also those that their budget has cut off."""
    now = [0.0]
    driver = ended(
        open_driver(
            changed(experiment, budget=Budget((limit("60s"), limit("10epochs")))),
            clock=lambda: now[0],
        )
    )
    assert "interrupted" in driver.result.counts
    now[0] = 61
    wanted, others = driver.result.ranking[:2], driver.result.ranking[2:]
    evaluations = Evaluations(driver, NOBODY, wanted, others, lambda: None)
    assert [evaluations._next() for _ in range(3)] == [*wanted, None]
    assert list(evaluations.waiting) == others


def test_a_worker_is_given_first_what_it_remembers_and_last_what_another_does(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = ended(open_driver(changed(experiment, trials=4)))
    evaluations = Evaluations(driver, NOBODY, [], driver.result.ranking, lambda: None)
    best, second, third, fourth = driver.result.ranking
    one, other = object(), object()
    evaluations.remembered = {id(one): {third.trial}, id(other): {best.trial, fourth.trial}}
    assert [evaluations._next(one) for _ in range(3)] == [third, second, best]
    assert evaluations._next(other) is fourth
    assert evaluations._next(other) is None


def test_wanted_evaluations_come_first_after_the_costs_are_measured(
    open_driver: OpenDriver, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time is up before the next: what a worker remembers changes nothing."""
    now = [0.0]
    driver = ended(
        open_driver(
            changed(experiment, trials=4, budget=Budget((limit("60s"),))), clock=lambda: now[0]
        )
    )
    wanted, others = driver.result.ranking[:2], driver.result.ranking[2:]
    evaluations = Evaluations(driver, NOBODY, wanted, others, lambda: None)
    worker = object()
    evaluations.crew, evaluations.remembered = (
        [worker],
        {id(worker): {wanted[0].trial, others[0].trial}},
    )
    monkeypatch.setattr(evaluations, "_measure_cost", lambda key, trial: True)
    evaluations._measure_costs()
    now[0] = 61
    assert [evaluations._next(worker) for _ in range(3)] == [*wanted, None]


class Silent:
    """A crew of one worker, which answers nothing but whether the checkpoint is whole."""

    raised = broken = ConnectionError
    dataset = None

    def __init__(self, clock: list[float]) -> None:
        self.clock, self.killed = clock, list[Any]()

    def ask(self, worker: object, method: str, *given: object) -> str:
        return method

    def wait(self, asked: list[str], timeout_s: float) -> list[str]:
        self.clock[0] += timeout_s
        return [answer for answer in asked if answer == "damage"]

    def get(self, answer: str) -> str:
        assert answer == "damage"
        return ""

    def kill(self, worker: object) -> None:
        self.killed.append(worker)

    def for_test(self) -> "Silent":
        return self


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Silent:
    """A worker that hangs when the test part is opened."""
    made = Silent([0.0])
    monkeypatch.setattr(evaluating.time, "monotonic", lambda: made.clock[0])
    return made


def test_a_test_that_hangs_is_ended_and_told(
    open_driver: OpenDriver, experiment: Experiment, silent: Silent
) -> None:
    driver = ended(open_driver(changed(experiment, trials=3, hang_timeout=20)))
    with pytest.raises(NotReady, match=r"could not be tested .*did not end within 20 s"):
        evaluate_best(driver, NOBODY, silent, by="search.run", tick=lambda: None)
    assert silent.killed == [silent]
    assert 20 < silent.clock[0] < 25
    assert driver.result.openings


class RayActorError(Exception):
    """Ray's error when a worker has died; it is known by its name."""


class Raised(Exception):
    """What a worker's own code has raised."""


class Mortal:
    """A crew of workers, numbered as they are started, of which some die when they are asked this.

    The first `after` times that one of these is asked, it answers. An `error` is what is raised.
    """

    raised, broken = Raised, Exception
    dataset = None

    def __init__(
        self, method: str, *mortal: int, error: type[Exception] = RayActorError, after: int = 0
    ) -> None:
        self.dies_of, self.mortal, self.error, self.after = method, mortal, error, after
        self.asked: list[tuple[int, str]] = []
        self.dead = set[int]()
        self.started = 0

    def crew(self, count: int, *, started: int) -> list[int]:
        return [self._new() for _ in range(count)]

    def for_test(self) -> int:
        living = {*range(1, self.started + 1)} - self.dead
        return min(living) if living else self._new()

    def keep(self, worker: int) -> None:
        pass

    def ask(self, worker: int, method: str, *given: object) -> tuple[int, str, int]:
        self.asked.append((worker, method))
        return worker, method, len(self.asked)

    def wait(self, asked: list[Any], timeout_s: float) -> list[Any]:
        return asked[:1]

    def get(self, answer: tuple[int, str, int]) -> EvaluationReply | str:
        worker, method, _ = answer
        if method == self.dies_of and worker in self.mortal:
            if self.after > 0:
                self.after -= 1
            else:
                if self.error is not Raised:
                    self.dead.add(worker)
                raise self.error("no luck")
        known = evaluation()
        return "" if method == "damage" else EvaluationReply(found=known["val"], cost=known["cost"])

    def _new(self) -> int:
        self.started += 1
        return self.started


LOST = "its process or its node was lost"


def unevaluated(driver: Driver) -> dict[str, int]:
    """How many trials could not be evaluated, by the reason."""
    return {reason: len(trials) for reason, trials in driver.result.unevaluated.items()}


def three(open_driver: OpenDriver, experiment: Experiment) -> Driver:
    return ended(open_driver(changed(experiment, trials=3)))


def test_when_all_die_before_they_are_ready_others_are_started(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver, crew = three(open_driver, experiment), Mortal("get_ready", 1, 2, 3)
    evaluate_trials(driver, crew, slots=2, tick=lambda: None)
    assert crew.started == 4
    assert not driver.result.unevaluated
    assert all(trial.evaluation for trial in driver.result.ranking)


def test_when_those_die_too_it_is_told(open_driver: OpenDriver, experiment: Experiment) -> None:
    driver, crew = three(open_driver, experiment), Mortal("get_ready", *range(1, 9))
    evaluate_trials(driver, crew, slots=2, tick=lambda: None)
    assert crew.started == 4
    assert unevaluated(driver) == {evaluating.NOBODY: 3}


def test_one_that_hangs_instead_is_ended_and_no_other_started(
    open_driver: OpenDriver, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hold the only GPU."""
    driver, clock = ended(open_driver(changed(experiment, trials=3, hang_timeout=20))), [0.0]
    crew, killed = Mortal("get_ready", 1), list[int]()

    def wait(asked: list[Any], timeout_s: float) -> list[Any]:
        clock[0] += timeout_s
        return [answer for answer in asked if answer[0] == 1][:1]

    monkeypatch.setattr(evaluating.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(crew, "wait", wait)
    monkeypatch.setattr(crew, "kill", killed.append, raising=False)
    evaluate_trials(driver, crew, slots=1, tick=lambda: None)
    assert killed == [2]
    assert crew.started == 2
    assert unevaluated(driver) == {evaluating.NOBODY: 3}


def test_nobody_is_started_once_the_search_is_interrupted(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver, crew = three(open_driver, experiment), Mortal("get_ready", 1, 2)
    evaluate_trials(
        driver, crew, slots=1, tick=lambda: driver.close("interrupted", "stopped by SIGINT")
    )
    assert crew.started == 1


def test_a_trial_of_which_every_worker_dies_takes_no_other_with_it(
    open_driver: OpenDriver, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of three networks to be timed; two are timed already and wait."""
    driver, crew = three(open_driver, experiment), Mortal("cost", 1, 2, after=2)
    networks = itertools.count()
    monkeypatch.setattr(evaluating, "cost_key", lambda config, precision: next(networks))
    evaluate_trials(driver, crew, slots=1, tick=lambda: None)
    assert unevaluated(driver) == {LOST: 1}
    assert sum(bool(trial.evaluation) for trial in driver.result.ranking) == 2


@pytest.mark.parametrize("method", ["damage", "evaluate"])
def test_when_a_worker_dies_of_the_test_another_one_tests_and_the_part_is_opened_once(
    open_driver: OpenDriver, experiment: Experiment, method: str
) -> None:
    driver, crew, said = three(open_driver, experiment), Mortal(method, 1), list[str]()
    driver.journal.complain = said.append
    evaluate_best(driver, NOBODY, crew, by="search.run", tick=lambda: None)
    assert crew.asked[-2:] == [(2, "damage"), (2, "evaluate")]
    assert driver.result.is_tested
    assert len(driver.result.openings) == 1
    assert not said


@pytest.mark.parametrize(
    ("error", "reason", "tries"), [(RayActorError, LOST, 2), (Raised, "no luck", 1)]
)
def test_when_that_one_dies_of_it_too_or_the_test_raises_the_search_says_so(
    open_driver: OpenDriver,
    experiment: Experiment,
    error: type[Exception],
    reason: str,
    tries: int,
) -> None:
    """What a worker's own code raises is raised in any other too."""
    driver, crew = three(open_driver, experiment), Mortal("evaluate", 1, 2, error=error)
    with pytest.raises(NotReady, match=rf"could not be tested \({reason}\); its checkpoint is in"):
        evaluate_best(driver, NOBODY, crew, by="search.run", tick=lambda: None)
    assert crew.asked.count((1, "evaluate")) == 1
    assert sum(method == "evaluate" for _, method in crew.asked) == tries
    assert not driver.result.is_tested


def test_an_interruption_ends_the_test(
    open_driver: OpenDriver, experiment: Experiment, silent: Silent
) -> None:
    driver, ticks = ended(open_driver(changed(experiment, trials=3))), itertools.count(1)

    def tick() -> None:
        if next(ticks) == 3:
            driver.close("interrupted", "stopped by SIGINT")

    evaluate_best(driver, NOBODY, silent, by="search.run", tick=tick)
    assert next(ticks) == 4
    assert not driver.result.is_tested
    assert not silent.killed


def test_all_that_the_pictures_need_is_imported_before_anything_is_timed(
    open_driver: OpenDriver, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what a thread has begun to import, or has yet to."""
    done = list[object]()
    monkeypatch.setattr(view, "import_evidence", lambda: done.append("imported"))
    monkeypatch.setattr(Evaluations, "_measure_costs", lambda self: done.append("timed"))
    driver = ended(open_driver(changed(experiment, trials=3)))
    workers: Any = SimpleNamespace(crew=lambda count, *, started: [])
    evaluate_trials(driver, workers, slots=2, tick=lambda: None)
    assert done == ["imported", "timed"]
