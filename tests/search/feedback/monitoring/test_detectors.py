"""What is exact in the tests, and that what they state is what they do."""

import doctest
from importlib import import_module

import numpy as np
import pytest

from search.feedback.monitoring.accuracy import Accuracy, AccuracyDetector
from search.feedback.monitoring.outputs import OutputsDetector
from search.feedback.monitoring.shares import difference_p, fall_power, lower_p
from trainables.errors import counted


@pytest.mark.parametrize("module", ["shares", "outputs", "class_mix", "accuracy", "findings"])
def test_examples(module: str) -> None:
    result = doctest.testmod(import_module(f"search.feedback.monitoring.{module}"))
    assert result.attempted
    assert not result.failed, counted(result.failed, "example")


def right(count: int, of: int) -> np.ndarray:
    return (np.arange(of) < count).astype(float)


def test_fishers_test_is_that_of_scipy() -> None:
    from scipy.stats import fisher_exact

    expected = fisher_exact([[15, 5], [95, 5]], alternative="less").pvalue
    assert float(lower_p(95, 100, 15, 20)) == pytest.approx(expected)
    before, now = np.array([95, 5]), np.array([15, 5])
    assert difference_p(before, now) == pytest.approx([2 * expected] * 2)


@pytest.mark.parametrize(("right", "of", "images"), [(1980, 2000, 50), (360, 400, 100)])
def test_stated_power_is_that_of_the_test(right: int, of: int, images: int) -> None:
    after = right / of - 0.1
    counts = np.random.default_rng(0).binomial(images, after, 4000)
    alarms = lower_p(right, of, counts, images) <= 0.017
    assert fall_power(right, of, after, images, 0.017) == pytest.approx(alarms.mean(), abs=0.02)


def test_the_stated_accuracy_is_5_points_below_that_on_the_reference() -> None:
    assert AccuracyDetector(right(360, 400), right(0, 0) > 0).size == "an accuracy of 0.850"


def test_a_model_that_was_right_on_99_percent_takes_more_images_than_by_smoothed_shares() -> None:
    """One wrong of each of five parts had been added: 51 images were said to be enough."""
    detector = AccuracyDetector(right(1980, 2000), right(0, 0) > 0)
    needed = detector.images_needed(0.05 / 3)
    assert needed is not None
    assert detector.power(needed, 2000, 0.05 / 3) >= 0.8
    assert detector.power(needed - 20, 2000, 0.05 / 3) < 0.8


def test_twenty_of_twenty_right_have_an_exact_interval() -> None:
    found = Accuracy.of(np.ones(20, np.bool_))
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.02 ** (1 / 20))


def test_too_few_validation_images_are_named_with_how_many_it_takes() -> None:
    detector = AccuracyDetector(right(20, 25), right(0, 0) > 0)
    assert detector.images_needed(0.05 / 3) is None
    least = detector.reference_images_needed(0.05 / 3)
    assert least is not None
    assert 100 < least < 2000


def test_equal_confidences_are_no_change_and_digits_that_records_lack_neither() -> None:
    sure = np.tile([0.9999998, 2e-7], (100, 1))
    assert OutputsDetector(sure, sure.round(6)).p_value() == 1
    unsure = np.concatenate([np.tile([0.5, 0.5], (25, 1)), sure[:75]])
    assert OutputsDetector(sure, unsure).p_value() < 0.01
