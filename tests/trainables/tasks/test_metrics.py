import tracemalloc

import numpy as np
import pytest
import torch
from sklearn import metrics as skm
from torch.nn import functional

from trainables.tasks.classification.entry import ENTRY as CLASSIFICATION
from trainables.tasks.metrics import (
    BATCH_SUMS,
    SCORES,
    WORST_GROUP,
    MetricAverage,
    class_freedom,
    compute,
    measure,
)

LOGITS = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(10) % 4


@pytest.mark.parametrize("name", sorted(BATCH_SUMS))
def test_a_metric_is_a_finite_sum_over_the_batch(name):
    metric = BATCH_SUMS[name]
    whole = metric(LOGITS, LABELS)
    assert whole.ndim == 0
    assert whole.isfinite()
    torch.testing.assert_close(
        whole, metric(LOGITS[:3], LABELS[:3]) + metric(LOGITS[3:], LABELS[3:])
    )


@pytest.mark.parametrize("name", sorted(BATCH_SUMS))
def test_a_mean_does_not_depend_on_the_batches(name):
    means = []
    for size in (10, 3, 1):
        running = MetricAverage(name, device=torch.device("cpu"))
        for logits, labels in zip(LOGITS.split(size), LABELS.split(size), strict=True):
            running.add(logits, labels)
        means.append(running.means("x")[f"x/{name}"])
    assert means == pytest.approx([means[0]] * 3, rel=1e-6)


def test_means_are_the_mean_loss_and_the_share_of_right_answers():
    means = MetricAverage("loss", "accuracy", device=torch.device("cpu"))
    means.add(LOGITS, LABELS)
    values = means.means("val")
    assert values["val/loss"] == pytest.approx(
        functional.cross_entropy(LOGITS, LABELS).item(), rel=1e-6
    )
    assert (
        values["val/accuracy"]
        == sum(row.argmax() == label for row, label in zip(LOGITS, LABELS, strict=True)) / 10
    )
    assert list(values) == ["val/loss", "val/accuracy"]


def test_sums_can_be_added_as_they_are_and_keep_no_graph():
    means = MetricAverage("loss", device=torch.device("cpu"))
    means.add_sums(torch.tensor(6.0, requires_grad=True) * 1, 2)
    means.add_sums(torch.tensor(4.0), 3)
    assert means.means("train") == {"train/loss": 2.0}
    assert not means.sums.requires_grad


def test_half_precision_logits_are_measured_in_full():
    means = MetricAverage("loss", device=torch.device("cpu"))
    means.add(torch.full((2000, 2), 0.0, dtype=torch.float16), torch.zeros(2000, dtype=torch.int64))
    assert means.means("x")["x/loss"] == pytest.approx(0.6931472, rel=1e-6)


def test_small_additions_to_a_large_sum_are_not_lost():
    means = MetricAverage("loss", device=torch.device("cpu"))
    means.sums[0] = 1e8
    for _ in range(100):
        means.add_sums(torch.tensor(0.5), 0)
    means.sums[-1] = 1
    assert means.means("x")["x/loss"] == 1e8 + 50


def test_a_loss_that_is_not_finite_stays_visible():
    means = MetricAverage("loss", device=torch.device("cpu"))
    means.add(torch.tensor([[float("nan"), 0.0]]), torch.tensor([0]))
    assert means.means("x")["x/loss"] != means.means("x")["x/loss"]


def drawn(classes: int, images: int, seed: int = 0):
    """Return labels and class probabilities that know a little of them; a class may be rare."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(
        classes, images, p=np.r_[0.6, np.full(classes - 1, 0.4 / (classes - 1))]
    )
    logits = generator.normal(size=(images, classes)) + 1.5 * np.eye(classes)[labels]
    chances = np.exp(logits)
    return labels, chances / chances.sum(axis=1, keepdims=True), logits


@pytest.mark.parametrize("classes", [2, 5])
def test_each_metric_is_scikit_learns(classes):
    labels, chances, logits = drawn(classes, 400)
    guesses = chances.argmax(axis=1)
    of_class = [
        skm.roc_auc_score(labels == number, chances[:, number]) for number in range(classes)
    ]
    expected = {
        "balanced_accuracy": skm.balanced_accuracy_score(labels, guesses),
        "macro_f1": skm.f1_score(labels, guesses, average="macro"),
        "log_loss": skm.log_loss(labels, chances),
        "auc": np.mean(of_class),
    }
    assert SCORES.keys() == expected.keys()
    assert expected.keys() == set(CLASSIFICATION.names) - {"accuracy", WORST_GROUP}
    expected[WORST_GROUP] = skm.recall_score(labels, guesses, average=None).min()
    outputs = torch.from_numpy(logits), torch.from_numpy(labels)
    for name, value in expected.items():
        metric = CLASSIFICATION.metric(name)
        assert compute(metric, labels, chances, None).value == pytest.approx(value), name
        assert measure(metric, *outputs, None)[metric.key] == pytest.approx(value), name
    assert measure(CLASSIFICATION.metric("accuracy"), *outputs, None) == {}


@pytest.mark.parametrize("classes", [2, 4, 10])
@pytest.mark.parametrize("name", SCORES)
def test_a_standard_error_is_the_deviation_between_draws(name, classes):
    found = [SCORES[name](*drawn(classes, 400, seed)[:2]) for seed in range(200)]
    spread = np.std([one.value for one in found])
    assert np.mean([one.error for one in found]) == pytest.approx(spread, rel=0.25)


@pytest.mark.parametrize("name", SCORES)
def test_a_class_that_does_not_occur_changes_nothing(name):
    labels, chances = np.array([0, 0, 1, 1]), np.eye(3)[[0, 0, 1, 1]]
    best = CLASSIFICATION.metric(name).best
    assert SCORES[name](labels, chances).value == pytest.approx(best)
    assert np.isfinite(SCORES[name](np.zeros(4, int), np.full((4, 3), 1 / 3))).all()


@pytest.mark.parametrize("name", ["balanced_accuracy", "macro_f1", "auc"])
def test_a_perfect_value_is_not_certain(name):
    few, many = (np.arange(count) % 2 for count in (20, 2000))
    errors = [SCORES[name](labels, np.eye(2)[labels]).error for labels in (few, many)]
    assert 0 < errors[1] < errors[0] / 10


def test_a_probability_of_zero_is_scikit_learns():
    labels, chances = np.array([0, 1, 1]), np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
    found = SCORES["log_loss"](labels, chances).value
    assert found == pytest.approx(skm.log_loss(labels, chances))


def test_macro_f1_of_a_thousand_classes_takes_no_matrix_a_draw():
    """Two hundred matrices of a million counts each would be 1.6 GB."""
    labels, chances, _ = drawn(1000, 2000)
    tracemalloc.start()
    SCORES["macro_f1"](labels, chances)
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()


def test_of_a_metric_that_is_to_be_low_the_score_is_turned_round():
    loss = CLASSIFICATION.metric("log_loss")
    assert (loss.score(0.25), loss.score(-0.25), loss.top_score) == (-0.25, 0.25, 0)


def test_an_interval_is_students_with_half_an_image():
    auc = CLASSIFICATION.metric("auc")
    assert auc.interval(0.9, 0.1, 20) == (pytest.approx(0.9 - 0.2197 - 0.025, abs=1e-4), 1)
    assert auc.interval(0.9, 0.1, 9) is None
    assert CLASSIFICATION.metric("log_loss").interval(0.1, 0.2, 1000) is None
    assert auc.evaluated(0.9, 0.1, 9) == {
        "name": "auc", "value": 0.9, "error": 0.1, "low": None, "high": None
    }  # fmt: skip


def test_the_smallest_class_decides_how_much_is_known():
    assert class_freedom(np.array([50, 50])) == pytest.approx(98)
    assert 9 < class_freedom(np.array([90, 10])) < 12
    assert class_freedom(np.array([99, 1])) == class_freedom(np.array([50, 0, 50])) == 0


def test_a_class_that_is_never_right_is_not_certain_in_macro_f1():
    labels = np.repeat([0, 1], [90, 10])
    found = SCORES["macro_f1"](labels, np.eye(2)[np.zeros(100, int)])
    assert found.error > 0.05
