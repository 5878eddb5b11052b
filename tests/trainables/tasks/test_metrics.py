import pytest
import torch
from torch.nn import functional

from trainables.tasks.metrics import METRICS, MetricAverage

LOGITS = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(10) % 4


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_metric_is_a_finite_sum_over_the_batch(name):
    metric = METRICS[name]
    whole = metric(LOGITS, LABELS)
    assert whole.ndim == 0
    assert whole.isfinite()
    torch.testing.assert_close(
        whole, metric(LOGITS[:3], LABELS[:3]) + metric(LOGITS[3:], LABELS[3:])
    )


@pytest.mark.parametrize("name", sorted(METRICS))
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
