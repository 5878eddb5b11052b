"""Is a model still right, and are its probabilities still what they say?

Where people correct images, the uncertain ones first, the corrected ones are no sample of all. So
images are divided by the model's confidence (the probability of the class that it names) into parts
of the same size, and at the confidence below which a server keeps all images, of which more are
corrected than of others. Each part of the corrected ones counts as much as its part of all (Cochran
1977, post-stratification): within a part they are taken to be a sample.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from search.feedback.monitoring.drift import comparable
from search.statistics import LEVEL, standard_error

Values = NDArray[np.float64]
Number = TypeVar("Number", float, Values)
PARTS, LEAST = 5, 5
"""The number of parts, and the corrected images that each must have; else there are fewer parts."""
SHUFFLES = 999


@dataclass(frozen=True)
class Judged:
    """Images whose class is known: how sure the model was of each, and whether it was right."""

    confidence: Values
    right: NDArray[np.bool_] | Values
    """True where it was right; of images by which it was chosen, maybe less than 1 (`less`)."""

    @classmethod
    def of(cls, probabilities: Values, targets: NDArray[np.int64]) -> "Judged":
        """Return what the model said of images of these classes."""
        confidence = comparable(probabilities.max(axis=1))
        return cls(confidence, probabilities.argmax(axis=1) == targets)

    def less(self, luck: NDArray[np.floating]) -> "Judged":
        """Return the same without the share of each image's being right that is luck, (images,)."""
        return Judged(self.confidence, np.maximum(0.0, self.right - luck.astype(np.float64)))

    @property
    def gaps(self) -> Values:
        """The confidence in each image's class, less 1 where that is right, (images,)."""
        found: Values = self.confidence - self.right
        return found


@dataclass(frozen=True)
class Accuracy:
    """An accuracy on corrected images, as it would be on all."""

    value: float
    low: float
    high: float
    """The ends of its 95 % interval (Wilson's, for as many images as it is worth)."""


@dataclass(frozen=True)
class Calibration:
    """The gap between confidence and accuracy, as it would be on all images."""

    error: float
    """The expected calibration error, in as many bins as there are parts."""
    before: float
    """That of the validation images, in those of these bins that have some."""
    surer: float
    """The mean confidence less the accuracy; negative where the model is less sure than right."""
    low: float
    high: float
    """The ends of the 95 % interval of `surer`."""


@dataclass(frozen=True)
class Suggested:
    """An accuracy that the confidences of images without a known class suggest."""

    value: float
    low: float
    high: float


class Parts:
    """Parts by confidence, each with so many of all images, and some corrected ones."""

    def __init__(self, confidence: Values, corrected: Judged, unsure: float | None = None) -> None:
        """Divide all images by their confidence, so that each part has corrected ones.

        Args:
            confidence: that of all images.
            corrected: those that were corrected.
            unsure: the largest confidence at which all images are kept. It divides parts too, if
                there are corrected ones on both sides.
        """
        between = [] if unsure is None else [float(np.nextafter(unsure, 2))]
        tried = [(count, between) for count in range(PARTS, 0, -1) if between]
        for count, own in [*tried, *((count, []) for count in range(PARTS, 1, -1))]:
            self.edges = np.unique([*np.quantile(confidence, np.arange(1, count) / count), *own])
            self.corrected = self.part(corrected.confidence)
            held = np.bincount(self.corrected, minlength=len(self.edges) + 1)
            if held.min() >= LEAST:
                break
        self.weights: Values = np.bincount(
            self.part(confidence), minlength=len(self.edges) + 1
        ) / len(confidence)
        self.is_covered = bool((held >= LEAST)[self.weights > 0].all())
        """False if some images are so sure or unsure that none like them was corrected."""

    def part(self, confidence: Values) -> NDArray[np.int64]:
        """Return the part of each image."""
        return np.searchsorted(self.edges, confidence, side="right").astype(np.int64)

    def means(self, part: NDArray[np.int64], values: Values) -> Values:
        """Return the mean of values in each part; 0 where it has none."""
        count = len(self.weights)
        held = np.maximum(np.bincount(part, minlength=count), 1)
        return np.bincount(part, values, minlength=count) / held


def accuracy(parts: Parts, corrected: Judged) -> Accuracy:
    """Return the accuracy on corrected images, as it would be on all."""
    value, variance = _accuracy(parts, corrected)
    return Accuracy(value, *_wilson(value, _worth(value, variance)))


def accuracy_fell(parts: Parts, corrected: Judged, reference: Judged) -> float:
    """Return the probability of so low an accuracy if it were that of the validation images."""
    value, variance = _accuracy(parts, corrected)
    before, count = float(reference.right.mean()), len(reference.right)
    error = math.hypot(math.sqrt(variance), standard_error(smoothed(before, count), count))
    return NormalDist().cdf((value - before) / error)


def _accuracy(parts: Parts, corrected: Judged) -> tuple[float, float]:
    """Return the accuracy weighted by part, and its variance."""
    held = np.bincount(parts.corrected, minlength=len(parts.weights))
    each = parts.means(parts.corrected, corrected.right.astype(float))
    likely = smoothed(each, held)
    variance = parts.weights**2 @ (likely * (1 - likely) / np.maximum(held, 1))
    return float(parts.weights @ each), float(variance)


def smoothed(share: Number, images: float | NDArray[np.int64]) -> Number:
    """Return a share of so many images as if one more were right and one wrong.

    So one of few that are all right, or all wrong, has a variance too.
    """
    return (share * images + 1) / (images + 2)  # type: ignore[return-value]


def _worth(value: float, variance: float) -> float:
    """Return the number of images of which a share has this variance."""
    inside = min(max(value, 0.01), 0.99)
    return inside * (1 - inside) / variance


def _wilson(share: float, images: float) -> tuple[float, float]:
    """Return Wilson's interval of a share of so many images, which need not be a whole number."""
    z = _z()
    middle = (share + z * z / (2 * images)) / (1 + z * z / images)
    width = (
        z * math.sqrt(share * (1 - share) / images + (z / (2 * images)) ** 2) / (1 + z * z / images)
    )
    return max(0.0, middle - width), min(1.0, middle + width)


def calibration(parts: Parts, corrected: Judged, reference: Judged) -> Calibration:
    """Compare confidence and accuracy on corrected images, as they would be on all."""
    now, before = (
        parts.means(parts.corrected, corrected.gaps),
        parts.part(reference.confidence),
    )
    then = parts.means(before, reference.gaps)
    # Of a part without validation images nothing is known from before; it is not 0 there.
    known = parts.weights * (np.bincount(before, minlength=len(parts.weights)) > 0)
    surer, width = float(parts.weights @ now), _z() * _error(parts, corrected)
    return Calibration(
        float(parts.weights @ np.abs(now)),
        float(known @ np.abs(then) / known.sum()) if known.any() else 0.0,
        surer,
        surer - width,
        surer + width,
    )


def calibration_differs(
    parts: Parts, corrected: Judged, reference: Judged, generator: np.random.Generator
) -> float:
    """Return the probability of gaps so unlike those of the validation images.

    It is a permutation test: within each part, which images are corrected ones is shuffled.
    """
    before = parts.part(reference.confidence)
    part = np.concatenate([parts.corrected, before])
    gaps = np.concatenate([corrected.gaps, reference.gaps])
    is_new = np.arange(len(part)) < len(corrected.gaps)
    weights = parts.weights * (np.bincount(before, minlength=len(parts.weights)) > 0)

    def difference(new: NDArray[np.bool_]) -> float:
        now, then = (parts.means(part[some], gaps[some]) for some in (new, ~new))
        return float(weights @ np.abs(now - then))

    found, larger = difference(is_new) - 1e-12, 1
    order, shuffled = np.argsort(part, kind="stable"), np.empty_like(is_new)
    for _ in range(SHUFFLES):
        shuffled[order] = is_new[np.lexsort((generator.random(len(part)), part))]
        larger += difference(shuffled) >= found
    return larger / (SHUFFLES + 1)


def change_is_seen(
    parts: Parts, reference: Judged, images: int, change: float, rate: float, power: float
) -> bool:
    """Return whether so many corrected images show that all gaps have changed by so much.

    What `calibration_differs` looks at is the mean size of the parts' differences, which are
    normally distributed: around 0 if nothing has changed, else around the change. A part in which
    there are few validation images, or none, has a large error, also where all of these are right.

    Args:
        parts: the parts, with the corrected images that there are; of more each has its share.
        reference: the validation images.
        images: the number of corrected images.
        change: the change of the gaps.
        rate: the false-alarm rate.
        power: the probability with which the change is to be seen.
    """
    before, count = parts.part(reference.confidence), len(parts.weights)
    held = np.bincount(before, minlength=count)
    right = smoothed(parts.means(before, reference.right.astype(float)), held)
    told = np.maximum(np.bincount(parts.corrected, minlength=count), 1) / len(parts.corrected)
    then, less = right * (1 - right), np.maximum(right - change, 0)
    now = np.maximum(less * (1 - less), then)
    new, old = images * told, np.maximum(held, 1)

    def sizes(center: float, errors: Values) -> tuple[float, float]:
        """Return mean and standard deviation of the weighted size, a sum of folded normals."""
        beyond = np.array([NormalDist().cdf(-center / one) for one in errors])
        mean = errors * math.sqrt(2 / math.pi) * np.exp(-((center / errors) ** 2) / 2)
        mean += center * (1 - 2 * beyond)
        variance = center**2 + errors**2 - mean**2
        return float(parts.weights @ mean), math.sqrt(float(parts.weights**2 @ variance))

    usual, spread = sizes(0.0, np.sqrt(then / new + then / old))
    changed, changed_spread = sizes(change, np.sqrt(now / new + then / old))
    z = NormalDist().inv_cdf
    return changed - z(power) * changed_spread >= usual + z(1 - rate) * spread


def _error(parts: Parts, corrected: Judged) -> float:
    """Return the standard error of the mean gap of corrected images, weighted by part."""
    count = len(parts.weights)
    held = np.maximum(np.bincount(parts.corrected, minlength=count), 1)
    each = parts.means(parts.corrected, corrected.gaps)
    spread = parts.means(parts.corrected, (corrected.gaps - each[parts.corrected]) ** 2)
    return float(np.sqrt(parts.weights**2 @ (spread / np.maximum(held - 1, 1))))


def suggested(reference: Judged, confidence: Values) -> Suggested:
    """Return the accuracy that confidences suggest (average thresholded confidence).

    Garg et al. 2022: the share of images above the confidence that as many of the validation images
    exceed as are right.
    """
    before = float(reference.right.mean())
    threshold = np.quantile(reference.confidence, 1 - before)
    # As many of equal confidence count as there.
    above, equal = (
        float(np.mean(some))
        for some in (reference.confidence > threshold, reference.confidence == threshold)
    )
    share = (before - above) / equal if equal else 0.0
    value = float(np.mean(confidence > threshold) + share * np.mean(confidence == threshold))
    error = math.hypot(
        standard_error(value, len(confidence)), standard_error(before, len(reference.right))
    )
    return Suggested(value, max(0.0, value - _z() * error), min(1.0, value + _z() * error))


def _z() -> float:
    """Return the half width of an interval in standard errors."""
    return NormalDist().inv_cdf(1 - (1 - LEVEL) / 2)
