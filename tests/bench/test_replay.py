import numpy as np
import pytest

from tests.bench.replay import Task, deep, halve, params_of, play


@pytest.mark.slow
def test_a_search_that_is_played_again_is_the_same() -> None:
    assert play(deep(0), 3, 4) == play(deep(0), 3, 4)


def test_the_best_of_an_easy_task_is_found_for_a_part_of_the_grid() -> None:
    params = [params_of({"optimizer": "AdamOptimizer", "lr": 10.0**-number}) for number in range(1, 31)]
    task = Task("easy", params, np.array([[0.5 + number / 100 + epoch / 1000 for epoch in range(32)] for number in range(30)]))
    outcome = play(task, 0, 2)
    assert outcome.regret == 0
    assert outcome.cost < 0.35
    assert outcome.makespan >= outcome.cost * task.accuracies.size / 2


def test_a_fixed_rule_loses_who_blooms_late_and_costs_what_it_should() -> None:
    params = [params_of({"optimizer": "AdamOptimizer", "lr": 10.0**-number}) for number in range(1, 11)]
    curves = np.full((10, 27), 0.5) + np.arange(10)[:, None] / 100
    curves[0, :9], curves[0, 9:] = 0.1, 0.9
    lost = [halve(Task("late", params, curves), seed, 1, grace=1, reduction=3).regret for seed in range(20)]
    assert np.mean([regret > 30 for regret in lost]) > 0.5
