import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from search.algorithms.bayes import Bayes, Gaussian
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
    assert behind[-1] < 1 < behind[0]


@pytest.mark.parametrize("algorithm", [Bayes, Gaussian])
def test_each_trial_counts_with_what_it_has_reached_or_more(
    algorithm: type[Bayes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaders at a rung that no trial has left yet count too.

    Whatever has a value is compared by one.
    """
    learn, compared = algorithm._study, 0

    def study(self: Bayes) -> optuna.Study:
        nonlocal compared
        learned = learn(self)
        if self.expected and self._predicted_values(self.histories):
            for history, trial in zip(self.histories.values(), learned.trials, strict=True):
                if set(history.values) - {1}:  # it has come to the second rung, at least
                    compared += 1
                    assert trial.state is TrialState.COMPLETE
                    assert history.at(history.epochs) <= trial.value <= 1
        return learned

    monkeypatch.setattr(algorithm, "_study", study)
    monkeypatch.setattr("tests.bench.sampled.TRIALS", 30)
    search(wide(1), "gp" if algorithm is Gaussian else "bayes", 1, 2)
    assert compared > 50
