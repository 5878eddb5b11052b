"""The evaluation of class probabilities, as JSON-compatible values.

The measures equal those of scikit-learn and torchmetrics to the last bit. They are computed here
because importing these libraries takes longer than all evaluations of a process.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.arrays import Labels, Part
from trainables.errors import printable
from trainables.tasks.calibration import Probabilities, calibration_bins, calibration_error
from trainables.tasks.metrics import ByClass, area_under, confusion, roc_curve
from trainables.tasks.pictures import encode_webp
from trainables.values import Evaluation, Json

CURVE_POINTS = 200
MAX_MISTAKES = 12
AVERAGED = ("precision", "recall", "f1")


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


def confidently_wrong(part: Part, chances: NDArray[np.float64]) -> list[Json]:
    """List the wrong guesses with the highest probability, the most confident first.

    Args:
        part: the images and their true classes.
        chances: class probabilities, (images, classes).

    Returns:
        At most `MAX_MISTAKES` dicts of JSON-compatible values: the image's `row` in the part, the
        class numbers `true` and `guess`, the probability of the guess (`confidence`), the image as
        a WebP in base64 (`webp`) and, if the image is a file, its path below the data set's root
        (`name`).
    """
    guesses = chances.argmax(axis=1)
    wrong = np.flatnonzero(guesses != part.targets)
    surest = wrong[np.argsort(-chances[wrong, guesses[wrong]], kind="stable")][:MAX_MISTAKES]
    return [
        {
            "row": int(row),
            "true": int(part.targets[row]),
            "guess": int(guesses[row]),
            "confidence": float(chances[row, guesses[row]]),
            "webp": encode_webp(part.images[row]),
            **({} if part.names is None else {"name": printable(part.names[row])}),
        }
        for row in surest
    ]


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
