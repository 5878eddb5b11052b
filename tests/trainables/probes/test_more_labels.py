"""The learning curve of a classifier, and what it says about more labels."""

import numpy as np
import pytest

from trainables.probes.more_labels import (
    FITS,
    LEVEL,
    SHARES,
    LearningCurve,
    learning_curve,
    more_labels,
)


def made_up(
    generator: np.random.Generator, images: int, floor: float, exponent: float, validated: int
) -> tuple[LearningCurve, float, float]:
    """Return a curve, with the chance of its images, and its true floor and factor."""
    factor = (0.5 - floor) * (images / 8) ** exponent
    sizes = tuple(round(share * images) for share in SHARES)
    chance = generator.standard_normal()  # the validation images are the same for all sizes
    errors = []
    for size, fits in zip(sizes, FITS, strict=True):
        true = floor + factor * size**-exponent
        shift = chance * np.sqrt(true * (1 - true) / validated)
        errors.append(tuple(true + shift + generator.normal(0, 0.01, fits)))
    return LearningCurve(sizes, tuple(errors), validated), floor, factor


def test_the_interval_contains_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    inside, count = 0, 300
    for _ in range(count):
        floor, exponent = generator.uniform(0, 0.2), generator.uniform(0.2, 0.9)
        curve, floor, factor = made_up(generator, 800, floor, exponent, 300)
        low, likely, high = curve.forecast(1600)
        assert low <= likely <= high
        inside += low <= 1 - floor - factor * 1600**-exponent <= high
    assert inside / count == pytest.approx(LEVEL, abs=0.06)


def test_more_images_are_better_and_fewer_validation_images_less_sure() -> None:
    generator = np.random.default_rng(1)
    curve, _, _ = made_up(generator, 400, 0.05, 0.4, 2000)
    likely = [curve.forecast(images)[1] for images in (400, 600, 800, 1600)]
    assert likely == sorted(likely)
    assert likely[0] == pytest.approx(1 - curve.means[-1], abs=0.01)
    few = LearningCurve(curve.sizes, curve.errors, 50)
    widths = [high - low for low, _, high in (curve.forecast(800), few.forecast(800))]
    assert widths[1] > 3 * widths[0]
    values = more_labels(curve, 400)
    assert [each["times"] for each in values["forecasts"]] == [1, 1.5, 2, 4]
    assert values["accuracies"] == pytest.approx((1 - curve.means).tolist())


def test_a_curve_is_measured_on_random_subsets() -> None:
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 4, 1600)
    values = (np.eye(4, 24)[labels] * 2 + generator.normal(0, 1, (1600, 24))).astype(np.float32)
    parts = values[:800], labels[:800], values[800:], labels[800:]
    curve = learning_curve(*parts, seed=0)
    assert curve is not None
    assert curve.sizes == (100, 200, 400, 800)
    assert [len(each) for each in curve.errors] == list(FITS)
    assert curve.means[0] > curve.means[-1]
    assert curve == learning_curve(*parts, seed=0)
    assert curve.errors[0] != learning_curve(*parts, seed=1).errors[0]  # type: ignore[union-attr]


def test_of_too_few_images_nothing_is_told_and_a_rare_class_is_no_trouble() -> None:
    generator = np.random.default_rng(3)
    values = generator.normal(0, 1, (64, 5)).astype(np.float32)
    assert learning_curve(values, np.arange(64) % 10, values, np.arange(64) % 10, seed=0) is None
    labels = (np.arange(64) == 5).astype(np.int64)
    curve = learning_curve(values, labels, values, labels, seed=0)
    assert curve is not None
    assert all(0 <= error <= 1 for each in curve.errors for error in each)
    low, likely, high = curve.forecast(128)
    assert 0 <= low <= likely <= high <= 1


def test_a_perfect_classifier_has_a_forecast() -> None:
    labels = np.arange(160) % 2
    values = (np.eye(2, 3)[labels] * 9).astype(np.float32)
    curve = learning_curve(values, labels, values, labels, seed=0)
    assert curve is not None
    assert curve.means[-1] == 0
    assert curve.forecast(320)[1] == pytest.approx(1, abs=0.01)
