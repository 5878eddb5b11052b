"""Metrics of classification.

Loss and accuracy are summed over the batches of an epoch on the device and read once at its end
(`MetricAverage`). The other metrics are no mean over batches: `measure` computes them, with their
standard error, from all outputs at once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainables.catalog.tasks import Metric

BATCH_SUMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "loss": lambda logits, labels: functional.cross_entropy(logits, labels, reduction="sum"),
    "accuracy": lambda logits, labels: (logits.argmax(dim=1) == labels).sum().to(logits.dtype),
}
"""By name, functions from logits (batch, classes) and labels (batch,) to the sum over the batch."""


class MetricAverage:
    """Running sums of named metrics, and the number of images they came from."""

    def __init__(self, *names: str, device: torch.device) -> None:
        self.names = names
        self.sums = torch.zeros(len(names) + 1, dtype=torch.float64, device=device)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch."""
        values = [BATCH_SUMS[name](logits.float(), labels) for name in self.names]
        self.add_sums(torch.stack(values), len(labels))

    def add_sums(self, sums: Tensor, images: int) -> None:
        """Add metrics that are summed over `images` already: one value for each name."""
        self.sums[:-1] += sums.detach()
        self.sums[-1] += images

    def means(self, prefix: str) -> dict[str, float]:
        """Return each metric's mean over all images added so far, as `prefix/name`."""
        *sums, images = self.sums.tolist()
        return {
            f"{prefix}/{name}": value / max(images, 1)
            for name, value in zip(self.names, sums, strict=True)
        }


class Measured(NamedTuple):
    """A metric's value on some images, and its standard error."""

    value: float
    error: float


Labels = NDArray[Any]
Probabilities = NDArray[np.float64]

RESAMPLES = 200
"""Draws of as many images anew, from which the standard error of macro F1 is taken."""


def measure(metric: Metric, logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return what an epoch reports of a metric, beside the loss and accuracy of every epoch.

    Args:
        metric: one of `METRICS` of the catalog; of accuracy there is nothing to add.
        logits: (images, classes).
        labels: class numbers, (images,).
    """
    if metric.name not in SCORES:
        return {}
    probabilities = logits.cpu().double().softmax(dim=1).numpy()
    return told(metric, SCORES[metric.name](labels.cpu().numpy(), probabilities))


def told(metric: Metric, measured: Measured) -> dict[str, float]:
    """Return a measurement as an epoch reports it."""
    return {metric.key: measured.value, metric.error_key: measured.error}


def confusion(labels: Labels, probabilities: Probabilities) -> NDArray[np.int64]:
    """Count images by true class (rows) and guessed class (columns)."""
    classes = probabilities.shape[1]
    pairs = labels.astype(np.int64) * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def balanced_accuracy(labels: Labels, probabilities: Probabilities) -> Measured:
    """Average the share of right guesses over the classes that occur.

    The standard error is that of independent shares; each share is drawn towards one half by an
    image of either kind (Agresti and Coull 1998), or a class of two images would be certain.
    """
    counts = confusion(labels, probabilities)
    images, right = counts.sum(axis=1), counts.diagonal()
    images, right = images[images > 0], right[images > 0]
    smoothed = (right + 1) / (images + 2)
    errors = smoothed * (1 - smoothed) / images
    return Measured(float((right / images).mean()), float(np.sqrt(errors.sum()) / len(images)))


def macro_f1(labels: Labels, probabilities: Probabilities) -> Measured:
    """Average F1, the harmonic mean of precision and recall, over the classes that occur.

    Those are the classes that are in the images or were guessed. The standard error is the
    deviation between draws of as many images from those that were seen (bootstrap), always the same
    draws for the same counts; it is at least that of balanced accuracy with every guess right, or
    a perfect value would be certain.
    """
    counts = confusion(labels, probabilities)
    cells = np.flatnonzero(counts)
    rows, columns = np.divmod(cells, len(counts))
    occur = (counts.sum(axis=0) + counts.sum(axis=1)) > 0

    def average(drawn: NDArray[Any]) -> NDArray[np.float64]:
        """Compute macro F1 from counts by cell, (draws, cells)."""
        right, whole = (np.zeros((len(counts), len(drawn))) for _ in range(2))
        same = rows == columns
        right[rows[same]] = drawn[:, same].T
        for axis in (rows, columns):
            np.add.at(whole, axis, drawn.T)
        f1 = np.divide(2.0 * right, whole, out=np.zeros(whole.shape), where=whole > 0)
        means: NDArray[np.float64] = f1[occur].mean(axis=0)
        return means

    found, images = counts.ravel()[cells], int(counts.sum())
    drawn = np.random.default_rng(0).multinomial(images, found / images, RESAMPLES)
    error = float(average(drawn).std(ddof=1))
    return Measured(float(average(found[np.newaxis])[0]), max(error, _least_error(counts)))


def _least_error(counts: NDArray[np.int64]) -> float:
    """Return the standard error of a mean over classes of which every image was named right."""
    images = counts.sum(axis=1)
    images = images[images > 0]
    return float(np.sqrt(((images + 1) / (images + 2) ** 2 / images).sum()) / len(images))


def log_loss(labels: Labels, probabilities: Probabilities) -> Measured:
    """Average the negative logarithm of the true class's probability.

    A probability of 0 counts as the smallest step from 1, as in scikit-learn.
    """
    true = probabilities[np.arange(len(labels)), labels.astype(np.int64)]
    losses = -np.log(np.maximum(true, np.finfo(np.float64).eps))
    spread = float(losses.std(ddof=1)) if len(losses) > 1 else 0.0
    return Measured(float(losses.mean()), spread / len(losses) ** 0.5)


def auc(labels: Labels, probabilities: Probabilities) -> Measured:
    """Average the area under the ROC curve, one class against the rest.

    Where no class has images of both kinds, it is one half: nothing can be told apart. The standard
    error is that of Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve",
    for an area of at most half a pair of images below 1; those of several classes are taken as
    independent. Of two classes one area is the other.
    """
    areas, variances = [], []
    for number in range(probabilities.shape[1]):
        positive = labels == number
        ones, others = int(positive.sum()), int((~positive).sum())
        if ones and others:
            areas.append(_area(positive, probabilities[:, number]))
            area = min(areas[-1], 1 - 0.5 / (ones * others))
            pairs = area / (2 - area) - area**2, 2 * area**2 / (1 + area) - area**2
            spread = area * (1 - area) + (ones - 1) * pairs[0] + (others - 1) * pairs[1]
            variances.append(max(0.0, spread) / (ones * others))
    if not areas:
        return Measured(0.5, 0.5)
    error = np.sqrt(np.mean(variances) / (1 if len(areas) == 2 else len(areas)))
    return Measured(float(np.mean(areas)), float(error))


def _area(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Return how often a positive has a higher score than a negative; a tie counts half."""
    _, kind, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[kind]
    ones, others = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * others))


SCORES: dict[str, Callable[[Labels, Probabilities], Measured]] = {
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "log_loss": log_loss,
    "auc": auc,
}
"""The metrics of the catalog that are no sum over batches, from labels (images,) and class
probabilities (images, classes).
"""
