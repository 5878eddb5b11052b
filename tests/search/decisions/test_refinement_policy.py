"""A refinement's decisions, played without Ray.

Its rounds, what ends them, and what a kill between two lines changes.
"""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.decisions.driver import Driver
from search.decisions.refinement import (
    edges,
    noise,
    observations,
    refinement_facts,
    refinement_sentences,
)
from search.decisions.refinement_policy import RefinementPolicy, refusal
from search.design.experiment import Experiment
from search.journal.events import RefinementTerms, Resumed
from search.journal.journal import FILE_NAME, Journal, read
from search.journal.result import SearchResult
from search.operations.resume import ResumeRequest, experiment_of
from search.space import Choice, Float, SearchSpace
from tests.bench.rates import refine
from tests.support.planted import PLANTED, peak
from tests.support.played import OpenDriver, changed, play, report
from trainables.config import TrialConfig
from trainables.errors import ConfigError

Begin = Callable[..., Driver]


@pytest.fixture
def planted(experiment: Experiment) -> Experiment:
    """A search whose best lies beyond its edge."""
    return changed(
        experiment, space=PLANTED, base=experiment.base.override(PLANTED.base), algorithm="random"
    )


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Return a function that begins a session of the refinement of a search that has ended.

    Called again, it goes on with the refinement.
    """
    opened: list[Journal] = []

    def make(searched: Experiment, **terms: int) -> Driver:
        journal, events = Journal.reopen(searched.folder)
        opened.append(journal)
        described = SearchResult.read(searched.folder).started.experiment
        driver = Driver(
            Experiment.from_description(searched.name, described, searched.storage),
            journal,
            RefinementPolicy,
        )
        driver.replay(events)
        now = {
            "slots": 2,
            "began_ms": time.time_ns() // 1_000_000,
            "experiment": driver.experiment.describe(),
        }
        journal.append(
            Resumed(
                **now,
                **(
                    {"refining": RefinementTerms(**{"rounds": 4, "trials": 6, **terms})}
                    if terms or driver.result.refinement is None
                    else {}
                ),
            )
        )
        driver.go_on()
        return driver

    yield make
    for journal in opened:
        journal.close()


def test_rounds_widen_beyond_the_edge_until_the_best_is_inside(
    open_driver: OpenDriver, planted: Experiment, begin: Begin
) -> None:
    before = play(open_driver(planted), peak).result
    assert before.best is not None
    driver = play(begin(planted), peak, slots=2)
    result, refinement = driver.result, driver.policy.refinement
    assert result.best is not None
    assert result.best.primary_value > before.best.primary_value + 0.05
    assert result.best.params["optimizer.lr"] > 3e-3
    first = refinement.rounds[0].changes[0]
    assert (first.path, first.kind) == ("optimizer.lr", "widened")
    assert " the edge of 1e-05 to 0.001: widened to 0.01" in first.text
    assert len(result.trials) == 9 + 6 * len(refinement.rounds)
    assert result.counts == {"completed": len(result.trials)}
    assert "within the noise of" in refinement.reason
    assert any("optimizer.lr: the best" in sentence for sentence in refinement_sentences(result))
    assert (
        refinement_facts(result)["refinement"]["rounds"][-1]["after"] == result.best.primary_value
    )
    assert SearchResult.read(planted.folder) == result


def test_rounds_end_at_their_number(
    open_driver: OpenDriver, planted: Experiment, begin: Begin
) -> None:
    play(open_driver(planted), peak)
    driver = play(begin(planted, rounds=1, trials=12), peak)
    assert len(driver.trials) == 21
    assert driver.policy.refinement.reason.startswith(
        "the maximum of 1 round is reached; the last one gained 0."
    )
    assert driver.over


def test_a_gain_within_noise_ends_it(
    open_driver: OpenDriver, experiment: Experiment, begin: Begin
) -> None:
    """Every trial is as good as any other."""
    few = changed(experiment, trials=4)
    play(
        open_driver(few),
        lambda config, epoch: report(epoch, 0.9, "completed" if epoch == config.epochs else None),
    )
    driver = play(
        begin(few),
        lambda config, epoch: report(epoch, 0.91, "completed" if epoch == config.epochs else None),
    )
    assert len(driver.policy.refinement.rounds) == 1
    chance, what = noise(driver.result)
    assert chance == pytest.approx(math.sqrt(0.91 * 0.09 / 50))
    assert what == "the standard error of 0.9100 on 50 images"
    assert (
        driver.policy.refinement.reason
        == f"round 1 gained 0.0100, within the noise of {chance:.4f} ({what})"
    )


def test_a_round_whose_trials_all_failed_is_no_round_without_a_gain(
    open_driver: OpenDriver, planted: Experiment, begin: Begin
) -> None:
    """Called again, the refinement has another round."""
    play(open_driver(planted), peak)
    driver = begin(planted)
    while (suggestion := driver.suggest()) is not None:
        driver.running(suggestion[0])
        driver.fail(suggestion[0], "error", "Traceback ...\nOSError: the disk is full")
    driver.finish()
    assert driver.policy.refinement.reason == (
        "all 6 trials of round 1 failed, the last one with: OSError: the disk is full"
    )
    again = play(begin(planted, rounds=1), peak)
    assert again.policy.refinement.reason.startswith(
        "the maximum of 1 round is reached; the last one gained 0."
    )


def test_a_round_whose_last_trial_makes_no_config_has_no_more_trials_than_it_should(
    open_driver: OpenDriver, planted: Experiment, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(open_driver(planted), peak)
    refining, whole = begin(planted, rounds=1), Experiment.config
    monkeypatch.setattr(
        Experiment,
        "config",
        lambda self, params: whole(
            self, {**params, "epochs": -1} if len(refining.trials) == 14 else params
        ),
    )
    result = play(refining, peak).result
    assert len(result.trials) == 15
    assert result.trials["t0015"].outcome == "failed"


def test_a_space_that_makes_no_sense_changes_nothing_and_is_told(
    open_driver: OpenDriver, planted: Experiment, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nonsense(*about: Any) -> Any:
        raise ConfigError("the values of Choice must differ from each other (got 0.01, 0.01).")

    play(open_driver(planted), peak)
    monkeypatch.setattr("search.decisions.refinement_policy.next_space", nonsense)
    result = play(begin(planted, rounds=1), peak).result
    assert result.refinement is not None
    (told,) = result.refinement.rounds[0].changes
    assert told.text == (
        "nothing, because the changes together do not make a valid space: the values of Choice "
        "must differ from each other (got 0.01, 0.01)."
    )
    assert len(result.trials) == 15
    request = ResumeRequest(name=planted.name, storage=planted.storage, trials=40)
    with pytest.raises(
        ConfigError,
        match=r"because 'played' has been refined\. Set the number of trials of each round with "
        r".*search\.refine .*--trials N",
    ):
        experiment_of(request, result)


def test_a_space_that_is_used_up_ends_it(
    open_driver: OpenDriver, experiment: Experiment, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(open_driver(experiment))
    driver = begin(experiment)
    monkeypatch.setattr("search.algorithms.bayes.Bayes.ask", lambda bayes, trial: None)
    play(driver)
    assert driver.policy.refinement.reason == "round 1 had no new trials to try"


@pytest.mark.parametrize("events", [1, 3, 8, 17, 32, 50, 75])
def test_a_kill_between_two_lines_changes_nothing(
    open_driver: OpenDriver, planted: Experiment, begin: Begin, events: int
) -> None:
    """A refinement that is cut off proposes the same as one that is not, in the same spaces."""
    play(open_driver(planted), peak)
    journal = planted.folder / FILE_NAME
    lines = journal.read_bytes()
    whole = play(begin(planted), peak)
    journal.write_bytes(lines)
    first = begin(planted)
    play(first, peak, events=first.journal.number + events)
    again = play(begin(planted), peak)
    assert [(name, trial.params, trial.outcome) for name, trial in again.trials.items()] == [
        (name, trial.params, trial.outcome) for name, trial in whole.trials.items()
    ]
    assert [one.changes for one in again.policy.refinement.rounds] == [
        one.changes for one in whole.policy.refinement.rounds
    ]
    assert again.policy.refinement.reason == whole.policy.refinement.reason


def test_the_scheduler_goes_on_with_what_it_has_heard(
    open_driver: OpenDriver, planted: Experiment, begin: Begin
) -> None:
    searched = changed(planted, scheduler="asha", base=planted.base.override({"epochs": 9}))
    play(open_driver(searched), peak)
    driver = play(begin(searched), peak)
    stops = [trial.stop for trial in list(driver.trials.values())[9:] if trial.stop]
    assert stops
    assert all(stop.rivals > 9 for stop in stops if stop.rung == 1)


def test_a_trial_outside_a_space_is_not_taken_for_one_inside(
    open_driver: OpenDriver, planted: Experiment, begin: Begin
) -> None:
    play(open_driver(planted), peak)
    driver = begin(planted, rounds=1)
    assert driver.suggest() is not None
    space = driver.experiment.space
    inside = [
        name
        for name, trial in driver.trials.items()
        if space.valid_values(trial.params) == trial.params
    ]
    assert 1 < len(inside) < len(driver.trials)
    known = driver.policy.search.algorithm.histories  # type: ignore[attr-defined]
    assert {name for name in known if known[name].is_inside} == set(inside)


def test_a_stopped_trial_is_not_held_against_epochs_that_it_was_not_given(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    """After one epoch the second trial was ahead, and was stopped.

    The third is behind the others at every epoch.
    """
    driver = open_driver(experiment)
    values = {"t0001": [0.3, 0.9, 0.95], "t0002": [0.5], "t0003": [0.2, 0.4]}
    for name in values:
        driver.suggest()
        driver.running(name)
    for name, accuracies in values.items():
        for epoch, accuracy in enumerate(accuracies, 1):
            driver.report(
                name,
                report(epoch, accuracy, "completed" if name == "t0001" and epoch == 3 else None),
            )
    for name in ("t0002", "t0003"):
        driver._end(name, "stopped", "")
    assert [one.score for one in observations(driver.result)] == [0.5, 1.0, 0.0]


def test_a_trial_that_diverged_is_the_worst_and_one_that_failed_says_nothing(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    for accuracy, outcome in (
        (0.2, "completed"),
        (0.9, "diverged"),
        (0.5, "completed"),
        (0.0, "failed"),
    ):
        name, _ = driver.suggest()  # type: ignore[misc]
        driver.running(name)
        driver.report(name, report(1, accuracy))
        driver.report(name, report(2, accuracy, outcome, "so it is"))
    assert [one.score for one in observations(driver.result)] == [0.5, 0.0, 1.0]


def test_lengths_of_one_training_are_one_observation(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    """Three learning rates in three lengths each; the schedule does not depend on the length."""
    space = SearchSpace(experiment.space.domains, base={"model.name": "deep_cnn"})
    result = play(
        open_driver(changed(experiment, space=space, base=TrialConfig().override(space.base)))
    ).result
    assert len(result.ranking) == 9
    found = {
        one.params["optimizer.lr"]: (one.params["epochs"], one.score)
        for one in observations(result)
    }
    assert found == {0.001: (9, 0.0), 0.01: (9, 0.5), 0.1: (9, 1.0)}
    assert len(observations(result)) == 3


@pytest.mark.parametrize("lengths", [1, 3])
def test_chance_makes_a_clear_effect_seldom_however_many_lengths_each_training_has(
    lengths: int,
) -> None:
    play, generator = refine.played(27, lengths), np.random.default_rng(0)
    assert sum(bool(play(generator)["clear"]) for _ in range(40)) <= 5


def test_what_a_cap_or_the_data_forbid_is_refused(experiment: Experiment) -> None:
    capped = changed(experiment, max_epochs=5)
    assert (
        refusal(capped, None, {"optimizer.lr": 0.1, "epochs": 40}, "epochs")
        == "the config would use 5 anyway"
    )
    assert refusal(capped, None, {"optimizer.lr": 0.1, "epochs": 40}, "optimizer.lr") == ""
    assert "optimizer.lr must be" in refusal(capped, None, {"optimizer.lr": -0.1}, "optimizer.lr")


def test_a_search_says_where_its_best_lies_at_an_edge(
    open_driver: OpenDriver, planted: Experiment
) -> None:
    driver: Driver = play(open_driver(planted), peak)
    (flag,) = edges(driver.result, planted.space)
    assert flag.startswith("optimizer.lr: the best, ")
    assert flag.endswith(" the edge of 1e-05 to 0.001")
    events = [event.kind for event in read(driver.journal.path)]
    assert "refined" not in events
    wide = changed(
        planted,
        name="wide",
        space=SearchSpace(
            {**PLANTED.domains, "optimizer.lr": Float(1e-4, 1.0, log=True)}, base=PLANTED.base
        ),
    )
    assert edges(play(open_driver(wide), peak).result, wide.space) == []


def test_choices_of_numbers_are_refined_and_others_kept(
    open_driver: OpenDriver, experiment: Experiment, begin: Begin, tmp_path: Path
) -> None:
    space = SearchSpace(
        {
            "optimizer.lr": Choice(0.001, 0.01, 0.1),
            "model.filter_size": Choice(3, 5),
            "optimizer.name": Choice("adam", "sgd"),
        },
        base={"model.name": "deep_cnn", "epochs": 1},
    )
    searched = changed(experiment, space=space, base=experiment.base.override(space.base))
    play(open_driver(searched), peak)
    driver = play(begin(searched), peak)
    domains: dict[str, Any] = dict(driver.experiment.space.domains)
    assert 0.01 in domains["optimizer.lr"].options
    assert 0.1 not in domains["optimizer.lr"].options
    assert domains["optimizer.name"] == Choice("adam", "sgd")
    assert {trial.outcome for trial in driver.trials.values()} == {"completed"}
