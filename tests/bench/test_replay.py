import gzip
from pathlib import Path

import numpy as np
import pytest

from tests.bench.curves import Task, deep, of_grid, of_table, params_of
from tests.bench.replay import play
from tests.bench.rules import Forecast, Halving, Median, Progressive, Promoting, Rule, outcome, race


@pytest.mark.slow
def test_a_search_that_is_played_again_is_the_same() -> None:
    assert play(deep(0), 3, 4) == play(deep(0), 3, 4)


def test_the_best_of_an_easy_task_is_found_for_a_part_of_the_grid() -> None:
    params = [
        params_of({"optimizer": "AdamOptimizer", "lr": 10.0**-number}) for number in range(1, 31)
    ]
    task = Task(
        "easy",
        params,
        np.array(
            [[0.5 + number / 100 + epoch / 1000 for epoch in range(32)] for number in range(30)]
        ),
    )
    outcome = play(task, 0, 2)
    assert outcome.regret == 0
    assert outcome.cost < 0.35
    assert outcome.makespan >= outcome.cost * task.accuracies.size / 2


def test_a_fixed_rule_loses_who_blooms_late_and_costs_what_it_should() -> None:
    params = [
        params_of({"optimizer": "AdamOptimizer", "lr": 10.0**-number}) for number in range(1, 11)
    ]
    curves = np.full((10, 27), 0.5) + np.arange(10)[:, None] / 100
    curves[0, :9], curves[0, 9:] = 0.1, 0.9
    lost = [
        race(Task("late", params, curves), seed, 1, Halving, grace=1, reduction=3).regret
        for seed in range(20)
    ]
    assert np.mean([regret > 30 for regret in lost]) > 0.5


def in_order() -> Task:
    """Twenty-seven trainings that stand from their first epoch on where they end."""
    params = [params_of({"optimizer": "AdamOptimizer", "lr": 1.1**-number}) for number in range(27)]
    return Task(
        "in order",
        params,
        np.array(
            [[0.5 + number / 100 + epoch / 1000 for epoch in range(27)] for number in range(27)]
        ),
    )


@pytest.mark.parametrize("kind", [Halving, Promoting, Forecast])
def test_halving_finds_the_best_where_the_order_never_changes_for_a_part_of_the_grid(
    kind: type[Rule],
) -> None:
    found = race(in_order(), 0, 2, kind, grace=1, reduction=3)
    assert found.regret == 0
    assert 27 / 27**2 < found.cost < 0.35


def test_pasha_goes_no_further_than_it_must() -> None:
    certain, whole = (
        race(in_order(), 0, 2, Progressive, grace=1, reduction=2),
        race(in_order(), 0, 2, Promoting, grace=1, reduction=2),
    )
    assert certain.regret == 0
    assert certain.cost < whole.cost
    turned = in_order().accuracies
    turned[:, 2:] = 0.3 + turned[::-1, 2:]
    crossing = Task("crossing", in_order().params, turned)
    assert race(crossing, 0, 2, Progressive, grace=1, reduction=2).cost > certain.cost


def test_median_stopping_ends_the_lower_half_and_loses_who_is_late() -> None:
    found = race(in_order(), 0, 2, Median, share=0.1)
    assert found.regret == 0
    assert 0.3 < found.cost < 0.8
    late = in_order().accuracies
    late[26, :5] = 0.1
    assert race(Task("late", in_order().params, late), 0, 2, Median, share=0.1).regret > 0
    assert race(Task("late", in_order().params, late), 0, 2, Median, share=0.9).regret == 0


def test_what_is_chosen_is_judged_by_its_end_and_not_by_when_it_was_seen() -> None:
    task = Task("late", in_order().params[:2], np.array([[0.5, 0.6], [0.4, 0.9]]))
    assert outcome(task, {0: 0.5, 1: 0.4}, 2, 2).regret == pytest.approx(30)
    assert outcome(task, {0: 0.5, 1: 0.4}, 2, 2).cost == 0.5


def test_a_table_of_trainings_gives_an_order_some_of_them_without_epoch_zero(
    tmp_path: Path,
) -> None:
    lines = [
        "num_params,lr,acc_0,acc_1,acc_2",
        *(f"{100 + number},0.1,0.0,0.{number + 10},0.{number + 20}" for number in range(5)),
        "100,0.1,0.0,0.1,0.2",
    ]
    with gzip.open(tmp_path / "nets.csv.gz", "wt") as file:
        file.write("\n".join(lines))
    make = of_table(tmp_path / "nets.csv.gz")
    assert make(0).accuracies.shape == (5, 2)
    assert sorted(make(0).accuracies[:, 1]) == pytest.approx([0.2, 0.21, 0.22, 0.23, 0.24])
    assert make(0).params != make(1).params


def test_the_grid_that_was_trained_is_whole_and_not_easy() -> None:
    ends = of_grid().reached[:, -1]
    assert of_grid().accuracies.shape == (64, 16)
    assert not np.isnan(of_grid().accuracies).any()
    assert ends.max() > 0.98
    assert (ends < 0.5).sum() >= 8
