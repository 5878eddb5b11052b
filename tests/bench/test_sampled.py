import numpy as np
import pytest

from tests.bench.curves import Task, wide
from tests.bench.sampled import AFTER, Table, search


def test_a_proposal_trains_as_the_nearest_training_does() -> None:
    task = wide(0)
    table = Table(task)
    assert [table.row(params) for params in task.params] == list(range(len(task.params)))
    beside = {**task.params[40], "optimizer.lr": task.params[40]["optimizer.lr"] * 1.02}
    assert table.row(beside) == 40


@pytest.mark.parametrize("algorithm", ["random", "bayes"])
def test_what_is_found_comes_nearer_to_the_best(algorithm: str) -> None:
    rates = np.logspace(-4, 0, 40)
    curves = 0.9 - 0.1 * np.abs(np.log10(rates) + 2)[:, None] - 0.3 / np.arange(1.0, 9)
    task = Task("one rate", [{"optimizer.lr": float(rate)} for rate in rates], curves)
    behind = search(task, algorithm, 3, 2)
    assert len(behind) == len(AFTER)
    assert behind == sorted(behind, reverse=True)
    assert 0 <= behind[-1] < 1 < behind[0]
