"""Which trials are evaluated once the last has ended, and what is said of the others. No worker is needed for those."""

from typing import Any

from search.budget import Budget, limit
from search.driver import Driver
from search.evaluation import MISSING, Evaluations, evaluate_trials
from search.experiment import Experiment
from search.result import NO_TIME
from search.summary import checkpoint_of
from tests.search.conftest import OpenDriver, changed, evaluation, play

NOBODY: Any = None


def ended(driver: Driver) -> Driver:
    """The same, its trials played to their ends, with a folder where each one's checkpoint would be."""
    for trial in play(driver).result.ranking:
        checkpoint_of(trial, driver.experiment.folder).mkdir(parents=True)
    return driver


def evaluated(driver: Driver) -> dict[str, list[str]]:
    """The trials that could not be, by the reason."""
    evaluate_trials(driver, NOBODY, slots=2, tick=lambda: None)
    return driver.result.unevaluated


def evaluate_those(driver: Driver, *trials: str) -> None:
    for trial in trials:
        driver.journal.append("evaluated", trial=trial, epoch=driver.result.trials[trial].best_epoch, **evaluation())


def test_a_config_that_is_none_any_more_is_told_and_hinders_nobody(open_driver: OpenDriver, experiment: Experiment) -> None:
    driver = ended(open_driver(changed(experiment, trials=3)))
    first, second, third = driver.result.ranking
    evaluate_those(driver, first.trial)
    second.config["optimizer"]["name"] = "gone"
    checkpoint_of(third, driver.experiment.folder).rmdir()
    reasons = evaluated(driver)
    assert reasons.pop(MISSING) == [third.trial]
    ((reason, trials),) = reasons.items()
    assert "gone" in reason
    assert trials == [second.trial]


def test_what_there_is_no_time_for_is_told(open_driver: OpenDriver, experiment: Experiment) -> None:
    now = [0.0]
    driver = ended(open_driver(changed(experiment, trials=3, budget=Budget((limit("60s"),))), clock=lambda: now[0]))
    best, *others = driver.result.ranking
    evaluate_those(driver, best.trial)
    now[0] = 61
    assert evaluated(driver) == {NO_TIME: [trial.trial for trial in others]}


def test_when_time_is_up_those_of_whom_it_is_wanted_are_evaluated_all_the_same(open_driver: OpenDriver, experiment: Experiment) -> None:
    """Also those that their budget has cut off."""
    now = [0.0]
    driver = ended(open_driver(changed(experiment, budget=Budget((limit("60s"), limit("10epochs")))), clock=lambda: now[0]))
    assert "interrupted" in driver.result.counts
    now[0] = 61
    wanted, others = driver.result.ranking[:2], driver.result.ranking[2:]
    evaluations = Evaluations(driver, NOBODY, wanted, others, lambda: None)
    assert [evaluations._next() for _ in range(3)] == [*wanted, None]
    assert list(evaluations.waiting) == others
