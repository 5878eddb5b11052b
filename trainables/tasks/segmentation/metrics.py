"""Metrics of segmentation, from counts of pixels by true and predicted class.

Counts have the shape (..., classes, classes), with the true class first. Pixels that the mask
ignores are not counted.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.entries import Metric
from trainables.tasks.segmentation.values import IGNORED

Counts = NDArray[np.int64]
Values = NDArray[np.float64]
Mask = NDArray[np.uint8]

RESAMPLES = 400
"""The number of bootstrap resamples of the images."""
TOLERANCE = 0.0075
"""How far a boundary may be off, as a share of the image's diagonal (Csurka et al. 2013)."""


def count_pixels(prediction: Mask, truth: Mask, classes: int) -> Counts:
    """Count an image's pixels by true class (rows) and predicted class, (classes, classes)."""
    counted = truth != IGNORED
    pairs = truth[counted].astype(np.int64) * classes + prediction[counted]
    counts: Counts = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return counts


def class_ious(counts: Counts) -> Values:
    """Return the intersection over union of each class, (..., classes).

    It is NaN for a class that no pixel has, neither in truth nor by prediction.
    """
    right, union = _right(counts), counts.sum(axis=-1) + counts.sum(axis=-2) - _right(counts)
    return _ratios(right, union)


def class_dices(counts: Counts) -> Values:
    """Return the Dice coefficient of each class, (..., classes); NaN as for `class_ious`."""
    return _ratios(2 * _right(counts), counts.sum(axis=-1) + counts.sum(axis=-2))


def mean_iou(counts: Counts) -> Values:
    """Return the mean of the IoUs of the classes that occur, (...)."""
    return _mean_of_present(class_ious(counts))


def mean_dice(counts: Counts) -> Values:
    """Return the mean of the Dice coefficients of the classes that occur, (...)."""
    return _mean_of_present(class_dices(counts))


def pixel_accuracy(counts: Counts) -> Values:
    """Return the share of pixels whose class is predicted correctly, (...)."""
    return _ratios(_right(counts).sum(axis=-1), counts.sum(axis=(-1, -2)))


Measure = Callable[[Counts], Values]
MEASURES: dict[str, Measure] = {
    "iou": mean_iou,
    "dice": mean_dice,
    "pixel_accuracy": pixel_accuracy,
}
"""The metrics that depend on the counts of all pixels together, by the name of the metric."""


def bootstrap_error(counts: Counts, measure: Measure) -> float:
    """Return the standard error of a metric over draws of the images, with replacement.

    Args:
        counts: the counts of each image, (images, classes, classes).
        measure: computes the metric from the counts of all images together.
    """
    images = len(counts)
    draws = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), RESAMPLES)
    pooled = np.tensordot(draws, counts, axes=1)
    return float(np.std(measure(pooled), ddof=1))


def epoch_values(counts: Counts, boundaries: Values, metric: Metric) -> dict[str, float]:
    """Return the metrics of the validation set by key, and the error of the one that ranks trials.

    Args:
        counts: the counts of each image, (images, classes, classes).
        boundaries: the boundary F1 of each image; it may be empty for another metric.
        metric: the metric that ranks trials.
    """
    pooled = counts.sum(axis=0)
    values = {f"val/{name}": float(measure(pooled)) for name, measure in MEASURES.items()}
    if metric.name not in MEASURES:
        values[metric.key] = float(boundaries.mean())
    return values | {metric.error_key: metric_error(counts, boundaries, metric)}


def metric_error(counts: Counts, boundaries: Values, metric: Metric) -> float:
    """Return the standard error of a metric over images; the arguments are those of `epoch_values`.

    That of a single image is 0, because nothing shows how images differ.
    """
    if len(counts) < 2:
        return 0.0
    if metric.name in MEASURES:
        return bootstrap_error(counts, MEASURES[metric.name])
    return float(boundaries.std(ddof=1) / len(boundaries) ** 0.5)


def boundary_f1(prediction: Mask, truth: Mask) -> float:
    """Return the mean boundary F1 of an image's classes (Csurka et al. 2013).

    For each class, precision is the share of its predicted boundary within `TOLERANCE` of the true
    boundary, and recall the share of the true one within it of the predicted one; F1 is their
    harmonic mean. Only classes that occur in the true mask count; without any boundary, an image
    counts as 1 if the masks are equal, else as 0.
    """
    # Imported here because importing scipy is slow, and few searches use this metric.
    from scipy.ndimage import distance_transform_edt

    limit = max(1.0, TOLERANCE * math.hypot(*truth.shape))
    predicted = np.where(truth == IGNORED, IGNORED, prediction)
    scores = []
    for number in np.unique(truth[truth != IGNORED]).tolist():
        edges = [_boundary(mask == number) for mask in (predicted, truth)]
        if not edges[1].any():
            continue
        if not edges[0].any():
            scores.append(0.0)
            continue
        near = [distance_transform_edt(~edge) <= limit for edge in edges]
        precision, recall = near[1][edges[0]].mean(), near[0][edges[1]].mean()
        scores.append(float(2 * precision * recall / max(1e-12, precision + recall)))
    return float(np.mean(scores)) if scores else float(np.array_equal(predicted, truth))


def _boundary(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find the pixels of a region that touch the outside of the region, within the image."""
    padded = np.pad(inside, 1, mode="edge")
    surrounded = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    boundary: NDArray[np.bool_] = inside & ~surrounded
    return boundary


def _right(counts: Counts) -> Counts:
    right: Counts = np.diagonal(counts, axis1=-2, axis2=-1)
    return right


def _ratios(above: NDArray[Any], below: NDArray[Any]) -> Values:
    """Divide; the result is NaN where the divisor is 0."""
    ratios: Values = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
    return ratios


def _mean_of_present(values: Values) -> Values:
    present = ~np.isnan(values)
    return _ratios(np.where(present, values, 0).sum(axis=-1), present.sum(axis=-1))
