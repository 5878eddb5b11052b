"""The evaluation of class probabilities, as JSON-compatible values.

The measures equal those of scikit-learn and torchmetrics to the last bit. They are computed here
because importing these libraries takes longer than all evaluations of a process.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.datasets.arrays import Labels
from trainables.tasks.metrics import ByClass, area_under, confusion, roc_curve
from trainables.values import Evaluation, Json

CURVE_POINTS = 200
CALIBRATION_BINS = 15
AVERAGED = ("precision", "recall", "f1")

Probabilities = NDArray[np.float64]


def report(labels: Labels, chances: Probabilities, classes: tuple[str, ...]) -> Evaluation:
    """Measure probabilities against the true classes.

    Args:
        labels: true class numbers, (images,).
        chances: class probabilities, (images, classes).
        classes: the names of the classes.

    Returns:
        Accuracy; precision, recall and F1, each for every class, as a mean over the classes that
        occur (`ByClass`), and as a mean weighted by the classes' numbers of images; the confusion
        matrix; ROC curves and AUC, one class against the rest; the expected calibration error
        (`calibration_error`) and its bins (`calibration_bins`).
    """
    counts = confusion(labels, chances)
    guesses, support, by_class = chances.argmax(axis=1), counts.sum(axis=1), ByClass.of(counts)
    curves = {
        name: _curve(labels == number, chances[:, number]) for number, name in enumerate(classes)
    }
    occurring = np.array([curve["auc"] is not None for curve in curves.values()])
    areas = np.array([curve["auc"] for curve in curves.values() if curve["auc"] is not None])
    per_class = {
        name: {
            "precision": float(by_class.precision[number]),
            "recall": float(by_class.recall[number]),
            "f1": float(by_class.f1[number]),
            "images": int(support[number]),
        }
        for number, name in enumerate(classes)
    }
    return {
        "images": len(labels),
        "accuracy": accuracy(labels, guesses),
        "macro": {
            **{name: by_class.macro(name) for name in AVERAGED},
            "auc": float(areas.mean()) if len(areas) else None,
        },
        "weighted": {
            **{
                name: float(np.average(getattr(by_class, name), weights=support))
                for name in AVERAGED
            },
            "auc": float(np.average(areas, weights=support[occurring])) if len(areas) else None,
        },
        "ece": calibration_error(labels, chances),
        "bins": calibration_bins(guesses == labels, chances.max(axis=1)),
        "per_class": per_class,
        "confusion_matrix": counts.tolist(),
        "classes": list(classes),
        "roc": curves,
    }


def accuracy(labels: Labels, guesses: NDArray[Any]) -> float:
    """Return the share of correct guesses."""
    return float(np.mean(labels == guesses))


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


def _curve(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> Json:
    """Compute the ROC curve of a class, thinned to at most 200 points.

    If all images are of this class, or none is, the curve is empty and its area None.
    """
    if positive.all() or not positive.any():
        return {"auc": None, "fpr": [], "tpr": []}
    fpr, tpr = roc_curve(positive, score)
    rows = np.unique(np.linspace(0, len(fpr) - 1, CURVE_POINTS).round().astype(int))
    return {
        "auc": area_under(fpr, tpr),
        "fpr": fpr[rows].tolist(),
        "tpr": tpr[rows].tolist(),
    }
