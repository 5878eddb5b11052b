"""Thresholds above which few answers are wrong, on made-up classifiers whose errors are known."""

import numpy as np
import pytest
from scipy.stats import beta

from trainables.reliability.selective import select_threshold, smallest_error, upper_bound


def calibrated(images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw probabilities, and right answers with exactly these probabilities."""
    generator = np.random.default_rng(seed)
    confidence = 1 - 0.5 * generator.random(images) ** 3
    return confidence, generator.random(images) < confidence


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    for wrong, answers in ((0, 10), (3, 40), (39, 40)):
        assert upper_bound(wrong, answers, 0.05) == pytest.approx(
            beta.ppf(0.95, wrong + 1, answers - wrong)
        )
    assert upper_bound(4, 4, 0.05) == upper_bound(0, 0, 0.05) == 1.0


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
