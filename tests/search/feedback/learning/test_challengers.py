"""The space in which a challenger is searched for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.design.budget import Budget
from search.design.experiment import Experiment
from search.feedback.learning.challengers import (
    ChampionData,
    challenger_experiment,
    challenger_space,
)
from search.space import Choice, Float, Int, SearchSpace
from tests.support.played import OpenDriver, changed, play
from trainables.config import DataConfig, TrialConfig
from trainables.datasets.load import load

MIXED = SearchSpace(
    {
        "model.name": Choice("deep_cnn", "table2"),
        "model.layers": Int(3, 7, when={"model.name": "deep_cnn"}),
        "optimizer.name": Choice("adam", "sgd"),
        "optimizer.lr": Float(0.001, 0.1, log=True),
        "optimizer.momentum": Float(0.5, 0.99, when={"optimizer.name": "sgd"}),
    },
    base={"epochs": 2, "model.width": 8},
    trials=6,
)
Champion = Callable[..., ChampionData]


@pytest.fixture
def champion(experiment: Experiment, open_driver: OpenDriver) -> Champion:
    """Play a search, and return what is known of one of its trials, by default the best."""

    def make(space: SearchSpace = MIXED, trial: str = "", **values: Any) -> ChampionData:
        base = TrialConfig().override(
            {path: value for path, value in space.base.items() if path != "model.width"}
        )
        played = changed(
            experiment, space=space, base=base, algorithm="random", trials=None, **values
        )
        result = play(open_driver(played)).result
        chosen = result.trials[trial] if trial else result.best
        assert chosen is not None
        config = TrialConfig.from_dict(chosen.config)
        return ChampionData(played, result, chosen, config, load(DataConfig()))

    return make


def drawn(space: SearchSpace, count: int = 200) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    return [space.sample(generator) for _ in range(count)]


def test_it_begins_with_the_champion_trained_on_twice_and_trained_anew(champion: Champion) -> None:
    known = champion()
    made = challenger_experiment(
        "i", known, known.config.data, "champion-1", trials=6, budget=Budget()
    )
    first = [made.config(made.space.begin(n, np.random.default_rng(0)) or {}) for n in range(3)]
    own = known.config
    assert [config.warm_start for config in first] == ["champion-1", "champion-1", ""]
    rates = [config.optimizer.lr for config in first]
    assert rates == pytest.approx([own.optimizer.lr, own.optimizer.lr / 10, own.optimizer.lr])
    assert {config.model for config in first} == {own.model}
    assert first[2].to_dict() == own.to_dict()
    assert made.space.begin(3, np.random.default_rng(0)) is None


@pytest.mark.parametrize("trial", ["t0001", "t0002", "t0003", "t0004", "t0005", "t0006"])
def test_any_trial_may_be_the_champion(champion: Champion, trial: str) -> None:
    """Also one that a narrowed space no longer holds, and of either family."""
    known = champion(trial=trial)
    made = challenger_experiment(
        "i", known, known.config.data, "champion-1", trials=6, budget=Budget()
    )
    for params in drawn(made.space):
        config = made.config(params)
        assert config.model.name == known.config.model.name
        if config.warm_start:
            assert config.model == known.config.model
            assert config.optimizer.name == known.config.optimizer.name
            assert config.optimizer.lr <= known.config.optimizer.lr * (1 + 1e-9)
            assert config.epochs == known.config.epochs


def test_both_ways_are_searched(champion: Champion) -> None:
    found = drawn(challenger_space(champion(), "champion-1"))
    share = np.mean([bool(params["warm_start"]) for params in found])
    assert 0.3 < share < 0.7


def test_it_is_read_from_its_journal_as_it_was(champion: Champion, tmp_path: Path) -> None:
    known = champion()
    made = challenger_experiment(
        "i", known, known.config.data, "champion-1", trials=6, budget=Budget()
    )
    again = Experiment.from_description("i", made.describe(), tmp_path)
    assert again.space.domains == made.space.domains
    assert list(again.space.first) == list(made.space.first)
    assert (again.base, again.scheduler, again.sealed) == (made.base, "fifo", True)


def test_a_baseline_is_fitted_anew_alone(champion: Champion) -> None:
    space = SearchSpace(
        {"model.neighbours": Choice(1, 3, 5), "model.features": Choice("hog", "lbp")},
        base={"model.name": "knn"},
        trials=3,
    )
    known = champion(space)
    made = challenger_experiment("i", known, known.config.data, "", trials=8, budget=Budget())
    assert made.planned_trials == 1
    assert made.config({}) == known.config


def test_an_improved_champion_is_improved_again(champion: Champion) -> None:
    """Whether it was trained on or anew: what its search had for the first does not count."""
    once = champion()
    space = challenger_space(once, "champion-1")
    for trial in ("t0001", "t0003"):
        known = champion(space=replace(space, trials=4), trial=trial, name=f"again-{trial}")
        made = challenger_experiment(
            "i", known, known.config.data, "champion-2", trials=6, budget=Budget()
        )
        starts = {made.config(params).warm_start for params in drawn(made.space)}
        assert starts == {"champion-2", ""}
        first = [made.space.begin(n, np.random.default_rng(0)) or {} for n in range(3)]
        assert [made.config(one).warm_start for one in first] == ["champion-2", "champion-2", ""]
