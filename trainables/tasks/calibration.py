"""Temperature scaling of class probabilities, and their calibration error before and after.

A temperature T replaces probabilities p by p ** (1 / T), normalised, which equals the division of a
network's logits by T (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2). It
changes how certain a model is, but neither its most probable class nor its accuracy.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.datasets.arrays import Labels

Probabilities = NDArray[np.float64]

CALIBRATION_BINS = 15

LIMITS = (0.05, 20.0)
"""The lowest and the highest temperature that `fit_temperature` returns."""
PSEUDO_IMAGES = 0.5
"""The weight of the smoothing of labels, in images.

With classifiers of 1,797 digits (two networks and a logistic regression; 12 draws) and 30, 100 and
300 images for the fit, the log loss of others was lower with 0.5 than with 0 and with 1, and much
lower than with one image of each class (Platt 1999).
"""
SMALLEST = 1e-300
"""Replaces a probability of 0, whose logarithm is infinite."""
DRAWS, SEED = 200, 0
"""The number of simulated sets of labels of `calibration_bias`, and their seed."""


def fit_temperature(chances: Probabilities, labels: Labels) -> float:
    """Return the temperature with which probabilities describe labels best.

    It minimises the cross-entropy with smoothed labels: as if `PSEUDO_IMAGES` more had been seen,
    divided equally among the classes. Without this, a model that makes no mistake on a few images
    would become certain of everything.

    Args:
        chances: class probabilities, (images, classes), for images that were not trained on.
        labels: true class numbers, (images,).
    """
    from scipy.optimize import minimize_scalar

    images, classes = chances.shape
    if not images or classes < 2:
        return 1.0
    logs = np.log(np.maximum(chances, SMALLEST))
    own = logs[np.arange(images), labels]
    smoothing = PSEUDO_IMAGES / (images + 1) / classes

    def cross_entropy(log_temperature: float) -> float:
        factor = np.exp(-log_temperature)
        scaled = logs * factor
        top = scaled.max(axis=1)
        norm = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        expected = smoothing * scaled.sum(axis=1) + (1 - classes * smoothing) * own * factor
        return float(np.mean(norm - expected))

    fit = minimize_scalar(cross_entropy, bounds=np.log(LIMITS), method="bounded")
    return float(np.exp(fit.x))


def calibration_error(labels: Labels, chances: Probabilities) -> float:
    """Return the expected calibration error, the mean difference between confidence and accuracy.

    Images are divided into 15 equally wide bins by the probability of their guessed class. The
    result is the mean over the bins, weighted by their images, of the absolute difference between
    the mean probability and the share of correct guesses (the L1 norm; Guo et al. 2017, "On
    Calibration of Modern Neural Networks", section 2). As in torchmetrics, it is computed in
    single precision.
    """
    confidence, guesses = torch.from_numpy(chances).max(dim=1)
    confidence = confidence.float()
    bins = torch.bucketize(confidence, torch.linspace(0, 1, CALIBRATION_BINS + 1), right=True) - 1

    def sum_bins(values: Tensor) -> Tensor:
        return torch.zeros(CALIBRATION_BINS + 1).scatter_add_(0, bins, values)

    counts = sum_bins(torch.ones_like(confidence))
    right = torch.nan_to_num(sum_bins((guesses == torch.from_numpy(labels)).float()) / counts)
    sure = torch.nan_to_num(sum_bins(confidence) / counts)
    return float(torch.sum(torch.abs(right - sure) * (counts / counts.sum())))


def calibration_bins(
    right: NDArray[np.bool_], confidence: NDArray[np.float64]
) -> dict[str, list[float]]:
    """Divide images into 15 bins by the guessed class's probability, and sum over each bin.

    Args:
        right: True for each image whose guess is correct, (images,).
        confidence: the probability of each image's guessed class, (images,).

    Returns:
        For each bin, by name: the number of `images`, the sum of `confidence`, and the number of
        guesses that are `right`.
    """
    weights = {
        "images": np.ones(len(right)),
        "confidence": confidence,
        "right": right.astype(float),
    }
    return {
        name: np.histogram(confidence, CALIBRATION_BINS, (0, 1), weights=weight)[0].tolist()
        for name, weight in weights.items()
    }


def calibration_bias(chances: Probabilities) -> float:
    """Return the calibration error that these probabilities would have if they were exact.

    The error is positive even then, because the share of correct answers in a bin varies by chance,
    the more so the fewer images there are. Labels are drawn from the probabilities `DRAWS` times
    (consistency resampling: Bröcker and Smith 2007, "Increasing the Reliability of Reliability
    Diagrams"), and the mean of the errors is returned.

    Args:
        chances: class probabilities, (images, classes).
    """
    generator = np.random.default_rng(SEED)
    bounds = chances.cumsum(axis=1)
    errors = []
    for _ in range(DRAWS):
        drawn = generator.random((len(chances), 1)) * bounds[:, -1:]
        errors.append(calibration_error((drawn > bounds).sum(axis=1), chances))
    return float(np.mean(errors))


def log_loss(chances: Probabilities, labels: Labels) -> float:
    """Return the mean negative log-probability of the true classes, in nats."""
    own: NDArray[np.float64] = chances[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, SMALLEST)).mean())


class CalibratedModel(nn.Module):
    """A module that maps images to class probabilities, at a temperature."""

    def __init__(self, module: nn.Module, temperature: float) -> None:
        super().__init__()
        self.module, self.temperature = module, temperature

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 images to class probabilities, (count, classes)."""
        logs: Tensor = self.module(images).double().clamp_min(SMALLEST).log()
        return torch.softmax(logs / self.temperature, dim=1)
