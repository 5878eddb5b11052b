from pathlib import Path

import numpy as np
import pytest

from search.schedulers.asha import FEATURES
from tests.bench.curves import Task, always
from tests.bench.decisions import POINTS, searched
from tests.bench.fit_stopping import (
    FIRST,
    SURE,
    Logit,
    Play,
    State,
    fit,
    fitted,
    left_out,
    searches_in,
    suites_of,
    table_of,
)


def task(name: str, noise: float) -> Task:
    """Thirty trainings of sixteen epochs that rise alike, with noise that fades."""
    generator, epochs = np.random.default_rng(len(name)), np.arange(1, 17)
    ends = np.linspace(0.4, 0.8, 30)[:, None]
    curves = ends * (1 - np.exp(-epochs / 4)) + noise / epochs * generator.normal(size=(30, 16))
    params = [{"optimizer.lr": 0.001 * (1 + number)} for number in range(30)]
    return Task(name, params, np.clip(curves, 0, 1))


def test_the_same_data_give_the_same_table_twice() -> None:
    found = []
    for _ in range(2):
        suites = suites_of([always(task("made up: clear", 0.05)), always(task("other", 0.5))])
        assert list(suites) == ["made up: clear", "DeepOBS"]
        states = fitted(suites, rounds=2, orders=1)
        found.append((fit(states), table_of(left_out(suites, states, 1))))
    assert found[0] == found[1]
    coefficients, rows = found[0]
    assert tuple(coefficients) == FEATURES
    assert [row["suite"] for row in rows] == 3 * ["made up: clear", "DeepOBS", "mean of suites"]


def test_a_search_that_is_surer_ends_later_in_the_same_order() -> None:
    play = Play("suite", task("noisy", 0.5), 0, FIRST, kept=1.0)
    play.run()
    assert [ended.sure for ended in play.ends] == list(SURE)
    costs = [ended.cost for ended in play.ends]
    assert costs == sorted(costs)
    assert all(ended.chance <= 1 - ended.sure + 1e-9 for ended in play.ends)
    assert len(play.states) > 3
    assert all(0 <= state.best <= len(state.features) for state in play.states)


def test_a_logit_finds_the_coefficient_that_the_choices_were_drawn_with() -> None:
    generator, states = np.random.default_rng(0), []
    for number in range(2000):
        features = np.zeros((4, len(FEATURES)))
        features[:, FEATURES.index("order")] = generator.normal(size=4)
        weights = np.append(np.exp(1.5 * features[:, FEATURES.index("order")]), 1.0)
        best = int(generator.choice(5, p=weights / weights.sum()))
        states.append(State("suite", f"task {number % 3}", features, best, True))
    assert fit(states)["order"] == pytest.approx(1.5, abs=0.15)
    assert Logit(states).weights.sum() == pytest.approx(1)


def test_searches_without_early_stopping_are_tasks(tmp_path: Path) -> None:
    searched(str(tmp_path / "whole"), POINTS, algorithm="grid", scheduler="fifo")
    searched(str(tmp_path / "cut"), POINTS, algorithm="grid", scheduler="asha")
    (make,) = searches_in(tmp_path)
    found = make(0)
    assert found.name == "search played"
    assert found.accuracies.shape[1] == 24
    assert len(found.params) >= 20
