"""Temperatures, and the calibration error that chance alone causes."""

import numpy as np
import pytest
import torch
from torch import nn

from trainables.predictors.base import at_temperature
from trainables.tasks.calibration import (
    CalibratedModel,
    calibration_bias,
    calibration_error,
    fit_temperature,
    log_loss,
)


def exact(images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw probabilities, and classes that are drawn from them."""
    generator = np.random.default_rng(seed)
    powers = np.exp(generator.normal(0, 2, (images, 4)))
    chances = powers / powers.sum(axis=1, keepdims=True)
    return chances, (generator.random((images, 1)) > chances.cumsum(axis=1)).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_applied_is_found(temperature: float) -> None:
    chances, labels = exact(5000)
    distorted = at_temperature(1 / temperature, chances)
    assert fit_temperature(distorted, labels) == pytest.approx(temperature, rel=0.05)


def test_a_few_right_answers_do_not_make_a_model_certain() -> None:
    chances = np.tile([0.7, 0.1, 0.1, 0.1], (20, 1))
    scaled = at_temperature(fit_temperature(chances, np.zeros(20, int)), chances)
    assert 0.9 < scaled.max() < 0.99


def test_without_images_or_with_one_class_nothing_is_scaled() -> None:
    assert fit_temperature(np.empty((0, 3)), np.empty(0, int)) == 1.0
    assert fit_temperature(np.ones((5, 1)), np.zeros(5, int)) == 1.0


def test_probabilities_of_zero_and_one_stay_finite() -> None:
    chances = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert np.isfinite(at_temperature(2.0, chances)).all()
    assert np.isfinite(log_loss(chances, np.array([1, 1])))


def test_the_bias_is_the_error_of_exact_probabilities() -> None:
    """With few images it is far from 0, and it falls with their number."""
    measured = [
        calibration_error(labels, chances)
        for chances, labels in map(exact, [100] * 200, range(200))
    ]
    assert calibration_bias(exact(100)[0]) == pytest.approx(np.mean(measured), rel=0.15)
    assert calibration_bias(exact(10_000)[0]) < 0.2 * np.mean(measured)


def test_the_module_computes_what_the_function_does() -> None:
    chances, _ = exact(10)
    module = CalibratedModel(nn.Identity(), 1.7)
    np.testing.assert_allclose(
        module(torch.from_numpy(chances)).numpy(), at_temperature(1.7, chances), rtol=1e-9
    )
