from dataclasses import replace

import numpy as np
import pytest

from trainables.baselines.base import Fitting
from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.evaluation.evaluate import evaluate
from trainables.robustness import measure
from trainables.robustness.measure import measure_robustness, stress_rows
from trainables.robustness.stress_tests import ATTACKS
from trainables.training.loop import Training


@pytest.fixture
def trained(make_config, make_dataset, tmp_path):
    """A config, its data set, and a checkpoint of a network that has learnt something."""
    config = make_config(epochs=3, optimizer__lr=0.01)
    dataset = make_dataset(train=96, val=60)
    training = Training(config, dataset)
    list(training.epochs())
    return config, dataset, checkpoint.save(tmp_path, training.state(), {})


def test_without_a_change_the_accuracy_is_that_of_the_evaluation(trained):
    config, dataset, path = trained
    (row,) = measure_robustness(config, dataset, path, "clean")["rows"]
    expected = evaluate(config, dataset, dataset.val, path)["accuracy"]
    assert np.mean(row) == pytest.approx(expected)
    assert set(row) <= {0, 1}


def test_a_corruption_has_a_row_for_each_severity(trained):
    config, dataset, path = trained
    rows = measure_robustness(config, dataset, path, "brightness")["rows"]
    assert np.shape(rows) == (5, 60)
    # The classes of this data set differ in brightness.
    assert np.mean(rows[4]) < np.mean(rows[0])


def test_an_attack_lowers_the_accuracy_and_pgd_most(trained, monkeypatch):
    config, dataset, path = trained
    # Images of random pixels are far from each other, so that they need a larger budget.
    strong = {name: replace(budget, epsilon=0.12) for name, budget in ATTACKS.items()}
    monkeypatch.setattr(measure, "ATTACKS", strong)
    clean, fgsm, pgd = (
        np.mean(measure_robustness(config, dataset, path, test)["rows"])
        for test in ("clean", "fgsm-8", "pgd-8")
    )
    assert clean > fgsm >= pgd


def test_results_are_equal_each_time(trained):
    for test in ("snow", "square-8"):
        first, second = (measure_robustness(*trained, test) for _ in range(2))
        assert first == second


def test_the_images_are_chosen_by_the_seed_and_are_fewer_if_large(make_dataset, monkeypatch):
    monkeypatch.setattr(measure, "MAX_IMAGES", 20)
    monkeypatch.setattr(measure, "MAX_LARGE_IMAGES", 5)
    dataset = make_dataset(val=60)
    rows = stress_rows(dataset, 1)
    assert len(set(rows.tolist())) == 20
    assert (rows == stress_rows(dataset, 1)).all()
    assert (rows != stress_rows(dataset, 2)).any()
    assert len(stress_rows(make_dataset(side=65, val=12), 1)) == 5
    assert len(stress_rows(make_dataset(val=12), 1)) == 12


def test_a_baseline_without_a_network_cannot_be_attacked_but_its_images_corrupted(
    make_dataset, tmp_path
):
    config = TrialConfig().override({"model.name": "svm", "model.features": "hog"})
    dataset = make_dataset(side=16, val=20)
    fitting = Fitting(config, dataset)
    list(fitting.epochs())
    path = checkpoint.save(tmp_path, fitting.state(), {})
    assert np.shape(measure_robustness(config, dataset, path, "fog")["rows"]) == (5, 20)
    assert measure_robustness(config, dataset, path, "fgsm-2") == {
        "reason": "svm has no network, and thus no gradients"
    }
