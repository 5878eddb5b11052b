import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn import metrics
from torchmetrics.functional.classification import multiclass_calibration_error

from tests.support.networks import OWN
from trainables.checkpoints import checkpoint
from trainables.checkpoints.checkpoint import CheckpointError
from trainables.config import TrialConfig
from trainables.evaluation.evaluate import evaluate, predictions
from trainables.tasks.calibration import CALIBRATION_BINS
from trainables.tasks.classification.report import CURVE_POINTS, confidently_wrong, report
from trainables.tasks.metrics import SCORES
from trainables.training.loop import Training

CASES = {
    "two classes": (2, [0.5, 0.5]),
    "three, imbalanced": (3, [0.85, 0.1, 0.05]),
    "ten": (10, [0.1] * 10),
    "one never occurs": (4, [0.5, 0.3, 0.2, 0.0]),
    "one neither occurs nor is guessed": (3, [0.5, 0.5, 0.0]),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def drawn(case, count: int = 400):
    """Labels by the case's shares and class probabilities that are right more often than not."""
    classes, shares = case
    generator = np.random.default_rng(5)
    labels = generator.choice(classes, count, p=shares)
    chances = generator.random((count, classes)) + 0.7 * np.eye(classes)[labels] * generator.random(
        (count, 1)
    )
    if case is CASES["one neither occurs nor is guessed"]:
        chances[:, -1] /= 1e3
    return (
        labels,
        chances / chances.sum(axis=1, keepdims=True),
        tuple(f"class {number}" for number in range(classes)),
    )


@each_case
def test_the_values_are_scikit_learns(case):
    labels, chances, classes = drawn(case)
    guesses, numbers = chances.argmax(axis=1), list(range(len(classes)))
    found = report(labels, chances, classes)
    options = {"average": "macro", "zero_division": 0}  # over the classes that occur
    assert found["images"] == 400
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, guesses))
    assert found["macro"]["precision"] == pytest.approx(
        metrics.precision_score(labels, guesses, **options)
    )
    assert found["macro"]["recall"] == pytest.approx(
        metrics.recall_score(labels, guesses, **options)
    )
    assert found["macro"]["f1"] == pytest.approx(metrics.f1_score(labels, guesses, **options))
    assert (
        found["confusion_matrix"]
        == metrics.confusion_matrix(labels, guesses, labels=numbers).tolist()
    )
    assert found["classes"] == list(classes)


@each_case
def test_a_macro_f1_is_the_same_in_an_evaluation_as_among_the_metrics(case):
    """Trials are ranked by the one, and shown with the other in the same table."""
    labels, chances, classes = drawn(case)
    assert report(labels, chances, classes)["macro"]["f1"] == SCORES["macro_f1"](labels, chances)[0]


@each_case
def test_the_area_under_the_curves_is_the_same_in_an_evaluation_as_among_the_metrics(case):
    labels, chances, classes = drawn(case)
    assert report(labels, chances, classes)["macro"]["auc"] == SCORES["auc"](labels, chances)[0]


@each_case
def test_the_weighted_values_are_scikit_learns(case):
    labels, chances, classes = drawn(case)
    guesses, found = chances.argmax(axis=1), report(*drawn(case))["weighted"]
    options = {"average": "weighted", "labels": list(range(len(classes))), "zero_division": 0}
    assert found["precision"] == pytest.approx(metrics.precision_score(labels, guesses, **options))
    assert found["recall"] == pytest.approx(metrics.recall_score(labels, guesses, **options))
    assert found["f1"] == pytest.approx(metrics.f1_score(labels, guesses, **options))


def test_of_imbalanced_classes_the_weighted_values_are_not_the_mean_ones():
    found = report(*drawn(CASES["three, imbalanced"]))
    for name in ("precision", "recall", "f1", "auc"):
        assert abs(found["weighted"][name] - found["macro"][name]) > 0.001


@each_case
def test_the_calibration_error_is_that_of_an_independent_computation(case):
    """Image by image, without bins of arrays: the distance of each bin's sums, over all images."""
    labels, chances, classes = drawn(case)
    gaps = [0.0] * CALIBRATION_BINS
    for label, chance in zip(labels, chances, strict=True):
        gaps[min(int(chance.max() * CALIBRATION_BINS), CALIBRATION_BINS - 1)] += float(
            chance.argmax() == label
        ) - float(chance.max())
    assert report(labels, chances, classes)["ece"] == pytest.approx(
        sum(map(abs, gaps)) / len(labels), abs=1e-6
    )


@each_case
def test_the_bins_add_up_to_the_calibration_error(case):
    found = report(*drawn(case))
    bins = found["bins"]
    assert (sum(bins["images"]), sum(bins["right"])) == (
        400,
        pytest.approx(400 * found["accuracy"]),
    )
    assert sum(
        abs(right - sure) for right, sure in zip(bins["right"], bins["confidence"], strict=True)
    ) / 400 == pytest.approx(found["ece"], abs=1e-6)


def test_calibration_error_is_zero_if_as_sure_as_right_and_one_if_sure_and_wrong():
    labels = np.array([0, 0, 0, 1])
    assert report(labels, np.tile([0.75, 0.25], (4, 1)), ("a", "b"))["ece"] == pytest.approx(0)
    assert report(labels, np.eye(2)[1 - labels], ("a", "b"))["ece"] == pytest.approx(1)


@each_case
def test_the_values_of_each_class_are_scikit_learns(case):
    labels, chances, classes = drawn(case)
    guesses = chances.argmax(axis=1)
    found = report(labels, chances, classes)["per_class"]
    assert list(found) == list(classes)
    for number, name in enumerate(classes):
        right, guessed = labels == number, guesses == number
        assert found[name]["precision"] == pytest.approx(
            metrics.precision_score(right, guessed, zero_division=0)
        )
        assert found[name]["recall"] == pytest.approx(
            metrics.recall_score(right, guessed, zero_division=0)
        )
        assert found[name]["f1"] == pytest.approx(metrics.f1_score(right, guessed, zero_division=0))
        assert found[name]["images"] == right.sum()


@pytest.mark.parametrize("name", ["three, imbalanced", "ten"])
def test_the_mean_area_under_the_curves_is_scikit_learns(name):
    labels, chances, classes = drawn(CASES[name])
    found = report(labels, chances, classes)
    for average in ("macro", "weighted"):
        assert found[average]["auc"] == pytest.approx(
            metrics.roc_auc_score(labels, chances, multi_class="ovr", average=average)
        )


@each_case
def test_each_curve_is_scikit_learns_thinned(case):
    labels, chances, classes = drawn(case, 3000)
    curves = report(labels, chances, classes)["roc"]
    for number, name in enumerate(classes):
        if not (labels == number).any():
            continue
        curve = curves[name]
        assert curve["auc"] == pytest.approx(
            metrics.roc_auc_score(labels == number, chances[:, number])
        )
        assert 2 <= len(curve["fpr"]) == len(curve["tpr"]) <= CURVE_POINTS
        assert (curve["fpr"][0], curve["tpr"][0], curve["fpr"][-1], curve["tpr"][-1]) == (
            0,
            0,
            1,
            1,
        )
        assert curve["fpr"] == sorted(curve["fpr"])
        assert metrics.auc(curve["fpr"], curve["tpr"]) == pytest.approx(curve["auc"], abs=0.01)


def test_a_class_that_never_occurs_has_no_curve_and_does_not_count_in_the_mean_area():
    labels, chances, classes = drawn(CASES["one never occurs"])
    found = report(labels, chances, classes)
    assert found["roc"]["class 3"] == {"auc": None, "fpr": [], "tpr": []}
    assert found["per_class"]["class 3"]["images"] == 0
    assert found["per_class"]["class 3"]["recall"] == 0
    assert found["macro"]["auc"] == pytest.approx(
        np.mean([found["roc"][name]["auc"] for name in classes[:3]])
    )
    assert len(found["confusion_matrix"]) == 4


def test_a_part_of_one_class_alone_has_no_area():
    found = report(np.zeros(5, dtype=np.int64), np.tile([0.8, 0.2], (5, 1)), ("a", "b"))
    assert found["accuracy"] == 1
    assert found["macro"]["auc"] is found["weighted"]["auc"] is None
    assert found["confusion_matrix"] == [[5, 0], [0, 0]]


def test_a_perfect_network_gets_the_highest_values():
    labels = np.arange(30) % 3
    found = report(labels, np.eye(3)[labels], ("a", "b", "c"))
    assert found["accuracy"] == 1
    assert found["macro"] == found["weighted"] == {"precision": 1, "recall": 1, "f1": 1, "auc": 1}


def test_a_class_never_guessed_has_no_precision_and_gives_no_warning():
    found = report(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]), ("a", "b"))
    assert found["per_class"]["b"] == {"precision": 0, "recall": 0, "f1": 0, "images": 1}


@each_case
def test_a_report_is_plain_values(case):
    found = report(*drawn(case))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.fixture
def trained(make_config, make_dataset, tmp_path):
    """A config, its data set, a checkpoint and the epoch that it was saved after."""
    config, dataset = (
        make_config(model__layers=6, model__dropout=0.5, epochs=1),
        make_dataset(val=600),
    )
    training = Training(config, dataset)
    (epoch,) = training.epochs()
    return config, dataset, checkpoint.save(tmp_path, training.state(), {}), epoch


def test_a_saved_network_is_as_good_as_it_was_in_training(trained):
    config, dataset, path, epoch = trained
    found = evaluate(config, dataset, dataset.val, path)
    assert found["accuracy"] == pytest.approx(epoch.values["val/accuracy"])
    chances = predictions(config, dataset, dataset.val, path)
    assert -np.log(chances[np.arange(600), dataset.val.targets]).mean() == pytest.approx(
        epoch.values["val/loss"], rel=1e-5
    )
    assert found == {
        **report(dataset.val.targets, chances, dataset.classes),
        "wrong": confidently_wrong(dataset.val, chances),
    }


def test_probabilities_are_probabilities_and_repeat(trained):
    config, dataset, path, _ = trained
    chances = predictions(config, dataset, dataset.test, path)
    assert chances.shape == (9, 3)
    assert chances.dtype == np.float64
    assert chances.min() >= 0
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert np.array_equal(chances, predictions(config, dataset, dataset.test, path))


def test_an_evaluation_loads_nothing_that_takes_longer_than_itself():
    slow = {"sklearn", "scipy", "torchmetrics", "torch._dynamo"}
    code = (
        "import sys, trainables.trial, trainables.evaluation.cost\n"
        f"print(*({slow} & sys.modules.keys()))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == ""
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_measures_are_those_of_scikit_learn_and_torchmetrics_to_the_last_bit(seed):
    generator = np.random.default_rng(seed)
    classes, count = int(generator.integers(2, 12)), int(generator.integers(1, 2000))
    labels = generator.choice(classes, count, p=generator.dirichlet(np.ones(classes)))
    chances = generator.random((count, classes)) ** 5 + 0.5 * np.eye(classes)[
        labels
    ] * generator.random((count, 1))
    chances = chances.round(2) + 1e-3 if seed % 2 else chances  # with ties
    chances /= chances.sum(axis=1, keepdims=True)
    guesses, names = chances.argmax(axis=1), [str(number) for number in range(classes)]
    found = report(labels, chances, tuple(names))
    each = metrics.precision_recall_fscore_support(
        labels, guesses, labels=range(classes), zero_division=0
    )
    for name, values in zip(("precision", "recall", "f1", "images"), each, strict=True):
        assert [found["per_class"][own][name] for own in names] == values.tolist()
    assert found["accuracy"] == metrics.accuracy_score(labels, guesses)
    assert found["ece"] == float(
        multiclass_calibration_error(
            torch.from_numpy(chances), torch.from_numpy(labels), classes, CALIBRATION_BINS, "l1"
        )
    )
    for number in set(labels.tolist()) if len(set(labels.tolist())) > 1 else ():
        fpr, tpr, _ = metrics.roc_curve(labels == number, chances[:, number])
        kept = np.unique(np.linspace(0, len(fpr) - 1, CURVE_POINTS).round().astype(int))
        assert found["roc"][str(number)] == {
            "auc": metrics.auc(fpr, tpr),
            "fpr": fpr[kept].tolist(),
            "tpr": tpr[kept].tolist(),
        }


@pytest.mark.parametrize("name", OWN)
def test_every_model_can_be_evaluated_on_the_test_part(name, make_dataset, tmp_path):
    """Those of torchvision's size are in `test_families`."""
    config, dataset = (
        TrialConfig().override({"model.name": name, "batch_size": 8, "epochs": 1}),
        make_dataset(channels=3),
    )
    path = checkpoint.save(tmp_path, Training(config, dataset).state(), {})
    assert evaluate(config, dataset, dataset.test, path)["images"] == 9


def test_a_damaged_checkpoint_is_not_evaluated(trained):
    config, dataset, path, _ = trained
    (path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError):
        evaluate(config, dataset, dataset.val, path)
