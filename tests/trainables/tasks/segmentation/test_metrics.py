"""Metrics of segmentation, beside scikit-learn's and what is counted by hand."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, jaccard_score

from trainables.catalog.entries import Metric
from trainables.tasks.segmentation.entry import ENTRY as SEGMENTATION
from trainables.tasks.segmentation.metrics import (
    bootstrap_error,
    boundary_f1,
    class_ious,
    count_pixels,
    epoch_values,
    mean_dice,
    mean_iou,
    pixel_accuracy,
)

GENERATOR = np.random.default_rng(0)
TRUTHS = GENERATOR.integers(0, 3, (20, 16, 16)).astype(np.uint8)
NOISE = GENERATOR.random(TRUTHS.shape) < 0.3
PREDICTIONS = np.where(NOISE, GENERATOR.integers(0, 3, TRUTHS.shape), TRUTHS).astype(np.uint8)
COUNTS = np.array([count_pixels(*pair, 3) for pair in zip(PREDICTIONS, TRUTHS, strict=True)])


def test_metrics_equal_scikit_learns() -> None:
    truth, prediction, pooled = TRUTHS.ravel(), PREDICTIONS.ravel(), COUNTS.sum(axis=0)
    assert mean_iou(pooled) == pytest.approx(jaccard_score(truth, prediction, average="macro"))
    assert mean_dice(pooled) == pytest.approx(f1_score(truth, prediction, average="macro"))
    assert pixel_accuracy(pooled) == pytest.approx(accuracy_score(truth, prediction))


def test_ignored_pixels_and_classes_that_no_pixel_has_do_not_count() -> None:
    truth = np.array([[0, 0, 255, 255]], np.uint8)
    prediction = np.array([[0, 1, 0, 1]], np.uint8)
    counts = count_pixels(prediction, truth, 3)
    assert counts.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert class_ious(counts)[:2].tolist() == [0.5, 0.0]
    assert np.isnan(class_ious(counts)[2])
    assert mean_iou(counts) == pytest.approx(0.25)


def test_the_error_is_that_of_other_draws_of_as_many_images() -> None:
    """Images differ in difficulty; the error of a mean over 60 of them is known by drawing them."""
    shares = np.random.default_rng(1).beta(8, 2, 4000)
    right = np.round(1000 * shares).astype(int)
    counts = np.zeros((4000, 2, 2), np.int64)
    counts[:, 0, 0], counts[:, 0, 1], counts[:, 1, 1] = right, 1000 - right, 1000
    draws = [mean_iou(counts[first : first + 60].sum(axis=0)) for first in range(0, 4000, 60)]
    told = np.mean(
        [bootstrap_error(counts[first : first + 60], mean_iou) for first in (0, 60, 120)]
    )
    assert told == pytest.approx(np.std(draws), rel=0.35)


def test_a_boundary_may_be_off_by_a_share_of_the_diagonal() -> None:
    truth = np.zeros((200, 200), np.uint8)
    truth[50:150, 50:150] = 1
    near, far = (np.roll(truth, off, axis=(0, 1)) for off in (1, 12))
    assert boundary_f1(truth, truth) == 1
    assert boundary_f1(near, truth) == 1
    assert boundary_f1(far, truth) < 0.6
    assert boundary_f1(np.zeros_like(truth), truth) == pytest.approx(0, abs=1e-9)


def test_an_image_without_a_boundary_is_right_or_wrong() -> None:
    empty = np.zeros((8, 8), np.uint8)
    assert boundary_f1(empty, empty) == 1
    assert boundary_f1(empty + 1, empty) == 0


@pytest.mark.parametrize("metric", SEGMENTATION.metrics, ids=lambda metric: metric.name)
def test_a_single_image_has_finite_values(metric: Metric) -> None:
    values = epoch_values(COUNTS[:1], np.array([0.5]), metric)
    assert all(np.isfinite(value) for value in values.values())
    assert values[metric.error_key] == 0
