"""Thresholds that keep promises, on made-up classifiers whose errors are known."""

import numpy as np
import pytest

from trainables.reliability.promises import (
    conformal_quantile,
    select_threshold,
    set_limits,
    smallest_error,
)

CLASSES = 6


def calibrated(images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw probabilities, and right answers with exactly these probabilities."""
    generator = np.random.default_rng(seed)
    confidence = 1 - 0.5 * generator.random(images) ** 3
    return confidence, generator.random(images) < confidence


def test_a_threshold_holds_for_new_images_in_most_samples() -> None:
    """The true share of wrong answers above a threshold is known here by its mean."""
    new_confidence, _ = calibrated(200_000, 0)
    broken, refused = 0, 0
    for seed in range(1, 201):
        selection = select_threshold(*calibrated(1000, seed), 0.05)
        if selection is None:
            refused += 1
            continue
        assert selection.bound <= 0.05
        is_answered = new_confidence >= selection.threshold
        broken += (1 - new_confidence[is_answered]).mean() > 0.05
    assert broken <= 200 * 0.05
    assert refused <= 10


def test_counts_are_those_of_the_images_above_the_threshold() -> None:
    confidence, is_right = calibrated(2000, 3)
    selection = select_threshold(confidence, is_right, 0.04)
    assert selection is not None
    answered = confidence >= selection.threshold
    assert (selection.images, selection.answers, selection.wrong) == (
        2000,
        answered.sum(),
        (~is_right[answered]).sum(),
    )
    assert 0.3 < selection.answers / selection.images < 1


def test_what_cannot_be_promised_is_not() -> None:
    confidence, is_right = calibrated(100, 4)
    assert select_threshold(confidence, is_right, 0.01) is None
    assert select_threshold(confidence[:0], is_right[:0], 0.01) is None
    least = smallest_error(confidence, is_right)
    assert least is not None
    assert select_threshold(confidence, is_right, least) is not None
    assert select_threshold(confidence, is_right, least - 0.001) is None
    assert smallest_error(confidence, np.zeros(100, bool)) is None


def test_a_perfect_model_answers_everything() -> None:
    selection = select_threshold(np.full(2000, 0.9), np.ones(2000, bool), 0.01)
    assert selection is not None
    assert (selection.answers, selection.wrong) == (2000, 0)


def made_up(images: int, seed: int, sharpness: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Draw class probabilities that are too certain, and true classes; class 0 is harder."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, images)
    logits = generator.normal(0, 1, (images, CLASSES))
    logits[np.arange(images), labels] += np.where(labels == 0, 0.5, 3.0)
    powers = np.exp(sharpness * logits)
    return powers / powers.sum(axis=1, keepdims=True), labels


def covered(by_class: bool, coverage: float, seed: int) -> np.ndarray:
    """Return the share of new images whose sets contain their class: of all, and of each class."""
    chances, labels = made_up(1000, seed)
    limits = set_limits(chances, labels, coverage, by_class=by_class)
    new, new_labels = made_up(4000, 1000 + seed)
    possible = new >= np.array(limits, dtype=float)
    own = possible[np.arange(4000), new_labels]
    each = [own[new_labels == label].mean() for label in range(CLASSES)]
    return np.array([own.mean(), *each])


@pytest.mark.parametrize("coverage", [0.9, 0.95])
def test_the_coverage_is_as_promised(coverage: float) -> None:
    means = np.mean([covered(False, coverage, seed) for seed in range(20)], axis=0)
    assert means[0] == pytest.approx(coverage, abs=0.005)
    assert means[1] < coverage - 0.03  # that of the hard class is not


def test_by_class_it_holds_for_each() -> None:
    means = np.mean([covered(True, 0.9, seed) for seed in range(20)], axis=0)
    np.testing.assert_allclose(means, 0.9, atol=0.02)


def test_the_quantile_is_a_score_that_is_large_enough() -> None:
    scores = np.arange(19) / 100
    assert conformal_quantile(scores, 0.9) == 0.17  # rank 18 of 20
    assert conformal_quantile(scores, 0.95) == 0.18
    assert conformal_quantile(scores, 0.96) is None
    assert conformal_quantile(scores[:0], 0.5) is None


def test_a_class_with_too_few_images_has_no_limit() -> None:
    chances, labels = made_up(300, 0)
    labels[labels == 2] = 1
    limits = set_limits(chances, labels, 0.9, by_class=True)
    assert [limit is None for limit in limits] == [False, False, True, False, False, False]
