"""The expected gain of further trials, and the search that ends itself when it is small."""

import math

import numpy as np
import pytest

from search.decisions.convergence import MIN_TRIALS, expected_gain, values_of
from search.design.experiment import Experiment
from search.journal.events import Epoch, Evidence, Tested
from search.journal.journal import read
from search.journal.result import SearchResult
from search.operations.resume import ResumeRequest, is_done
from search.space import Choice, SearchSpace
from tests.support.played import OpenDriver, changed, play, reopened, report
from trainables.config import TrialConfig
from trainables.messages import Report

DRAWS = {
    "normal": lambda draw, count: 0.9 + 0.02 * draw.standard_normal(count),
    "errors near none": lambda draw, count: (
        1 - np.minimum(0.9, 0.02 * np.exp(0.8 * draw.standard_normal(count)))
    ),
    "of 359 images": lambda draw, count: (
        np.round(359 * (1 - np.minimum(0.9, 0.02 * np.exp(0.6 * draw.standard_normal(count)))))
        / 359
    ),
    "40 % diverge": lambda draw, count: np.where(
        draw.random(count) < 0.4, -np.inf, 0.9 + 0.02 * draw.standard_normal(count)
    ),
    "getting better": lambda draw, count: (
        0.93 - 0.08 * np.exp(-6 * np.arange(count) / count) + 0.01 * draw.standard_normal(count)
    ),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_search_that_is_stopped_loses_no_more_than_the_threshold_on_average(name: str) -> None:
    """Played 60 times, with 120 trials planned; and it does stop before."""
    draw, wanted, lost, begun = np.random.default_rng(1), 0.003, [], []
    for _ in range(60):
        values = [float(value) for value in DRAWS[name](draw, 120)]
        stop = next(
            (
                count
                for count in range(MIN_TRIALS, 120)
                if expected_gain(values[:count], 120 - count) < wanted
            ),
            120,
        )
        lost.append(max(values) - max(values[:stop]))
        begun.append(stop)
    assert np.mean(lost) < wanted
    assert np.mean(begun) < 0.9 * 120


def test_nothing_is_expected_of_few_trials_and_little_of_trials_that_are_all_alike() -> None:
    values = [0.9 + 0.001 * (number % 7) for number in range(40)]
    assert expected_gain(values[: MIN_TRIALS - 1], 10) == math.inf
    assert expected_gain([-math.inf] * 30, 10) == math.inf
    assert expected_gain([0.5] * 30, 1000) == 0
    gains = [expected_gain(values, ahead) for ahead in (1, 10, 100, 1000)]
    assert 0 < gains[0] < gains[1] < gains[2] < gains[3] < 0.01


def test_while_trials_get_better_more_is_expected() -> None:
    """Each doubling gained 10 points: so would the next."""
    values = [0.1 * math.log2(number) for number in range(1, 65)]
    assert expected_gain(values, 64) >= 0.1
    assert expected_gain(values[::-1], 64) < 0.1


@pytest.fixture
def wide(experiment: Experiment) -> Experiment:
    """200 random trials of 2 epochs, of which hardly one is better than another."""
    space = SearchSpace({"seed": Choice(*range(500))}, base={"model.name": "deep_cnn", "epochs": 2})
    return changed(
        experiment,
        space=space,
        base=TrialConfig().override(space.base),
        algorithm="random",
        trials=200,
        min_gain=0.1,
    )


def nearly_alike(config: TrialConfig, epoch: int) -> Report:
    return report(
        epoch,
        0.9 + 0.00001 * (config.seed % 89) + 0.001 * epoch,
        "completed" if epoch == config.epochs else None,
    )


def test_a_search_ends_itself_when_the_rest_is_not_worth_while(
    open_driver: OpenDriver, wide: Experiment
) -> None:
    """Running trials come to their end; the reason is journaled before new trials stop."""
    driver = play(open_driver(wide), nearly_alike, slots=3)
    result = driver.result
    assert MIN_TRIALS <= len(result.trials) < 40
    assert result.counts == {"completed": len(result.trials)}
    (enough,) = (event.data for event in read(driver.journal.path) if event.kind == "enough")
    assert enough.expected < enough.wanted == 0.1
    assert enough.ahead == 200 - len(result.trials)
    assert (result.outcome, result.reason) == ("gain", enough.reason)
    assert "less than 0.1 (--min-gain)" in result.reason
    assert (result.is_over, driver.interrupted) == (True, False)
    assert SearchResult.read(wide.folder) == result


@pytest.mark.parametrize(("accuracy", "is_ended"), [(0.12, True), (0.6, False)])
def test_a_search_that_only_guesses_ends_itself_if_asked(
    open_driver: OpenDriver, wide: Experiment, accuracy: float, is_ended: bool
) -> None:
    hopeless = changed(wide, min_gain=0.0, stop_at_chance=4, trials=30)

    def told(config: TrialConfig, epoch: int) -> Report:
        return report(epoch, accuracy, "completed" if epoch == config.epochs else None)

    driver = open_driver(hopeless)
    guess = {"says": "a", "val": {"accuracy": 0.11}, "test": {"accuracy": 0.1}}
    driver.result.started.data["guesses"] = [guess]
    result = play(driver, told).result
    if not is_ended:
        assert (len(result.trials), result.outcome) == (30, "completed")
        return
    assert 4 <= len(result.trials) <= 6
    assert result.outcome == "gain"
    assert result.reason == (
        f"the best of {result.ended} trials is not significantly better than guessing "
        "(--stop-at-chance)"
    )
    (enough,) = (event.data for event in read(driver.journal.path) if event.kind == "enough")
    assert (enough.at_chance, enough.ahead) == (4, 30 - len(result.trials))
    driver.journal.append(Evidence(trial="", file="pictures", path=""))
    assert result.best is not None
    driver.journal.append(Tested(trial=result.best.trial, epoch=result.best.best_epoch, test={}))
    assert is_done(result, driver.experiment, ResumeRequest(name="s"))
    assert not is_done(result, driver.experiment, ResumeRequest(name="s", stop_at_chance=0))
    assert reopened(driver).policy.enough == result.reason
    driver.policy.experiment = changed(hopeless, stop_at_chance=0)
    again = reopened(driver)
    assert again.policy.enough == ""


def test_off_is_the_default(open_driver: OpenDriver, wide: Experiment) -> None:
    result = play(open_driver(changed(wide, min_gain=0.0, trials=60)), nearly_alike).result
    assert (len(result.trials), result.outcome) == (60, "completed")


def test_a_resume_goes_on_with_another_threshold_or_more_trials(
    open_driver: OpenDriver, wide: Experiment
) -> None:
    driver = play(open_driver(wide), nearly_alike)
    result, count = driver.result, len(driver.result.trials)
    assert result.best is not None
    driver.journal.append(Tested(trial=result.best.trial, epoch=result.best.best_epoch, test={}))
    driver.journal.append(Evidence(trial="", file="pictures", path=""))

    assert is_done(result, driver.experiment, ResumeRequest(name="s"))
    assert not is_done(result, driver.experiment, ResumeRequest(name="s", min_gain=0.0))
    assert not is_done(result, driver.experiment, ResumeRequest(name="s", trials=300))
    again = reopened(driver)
    assert again.suggest() is None
    assert again.over
    again.policy.experiment = changed(wide, min_gain=0.0, trials=count + 5)
    again.policy.enough = ""
    assert len(play(again, nearly_alike).result.trials) == count + 5
    assert again.result.outcome == "completed"


def test_what_was_enough_is_enough_after_a_resume_whatever_has_come_since(
    open_driver: OpenDriver, wide: Experiment
) -> None:
    driver = play(open_driver(wide), nearly_alike)
    trial = driver.result.trials["t0001"]
    driver.journal.append(
        Epoch(trial="t0001", epoch=max(trial.epochs) + 1, metrics=report(1, 0.99).metrics)
    )
    again = reopened(driver)
    assert again.policy.enough == driver.policy.enough != ""
    driver.policy.experiment = changed(wide, min_gain=0.01)
    assert reopened(driver).policy.enough == ""


def test_what_runs_and_what_failed_is_no_value(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    first, second, _ = (driver.suggest()[0] for _ in range(3))  # type: ignore[index]
    for trial in (first, second):
        driver.running(trial)
        driver.report(trial, report(1, 0.5))
    driver.fail(second, "error", "its own fault")
    assert values_of(driver.result) == [-math.inf]
    driver.report(first, report(3, 0.75, "completed"))
    assert values_of(driver.result) == [0.75, -math.inf]


def test_lengths_of_one_training_are_one_value(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    space = SearchSpace(
        {"optimizer.lr": Choice(0.001, 0.01), "epochs": Choice(1, 2, 3)},
        base={"model.name": "deep_cnn"},
    )
    driver = play(
        open_driver(changed(experiment, space=space, base=TrialConfig().override(space.base))),
        nearly_alike,
    )
    assert len(driver.result.ranking) == 6
    assert values_of(driver.result) == [
        trial.primary_value
        for trial in driver.result.trials.values()
        if trial.params["epochs"] == 3
    ]
