"""Test whether the model is right as often as before."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from search.feedback.monitoring.detector import Detector
from search.feedback.monitoring.shares import fall_power, interval, lower_p

ACCURACY = "accuracy"
DROP = 0.05
"""The drop in accuracy, compared with the reference, that the test should detect."""


@dataclass(frozen=True)
class Accuracy:
    """The accuracy on a random sample of corrected images."""

    value: float
    low: float
    high: float
    """The bounds of the accuracy's 95 % confidence interval (`interval`)."""

    @classmethod
    def of(cls, right: NDArray[np.bool_]) -> "Accuracy":
        """Estimate the accuracy; `right` is True for each image classified right, (images,)."""
        value = float(right.mean())
        return cls(value, *interval(value, len(right)))


@dataclass(frozen=True)
class AccuracyDetector(Detector):
    """Compare the accuracy on corrected images with that on the reference.

    This is Fisher's exact test, one-sided: only a lower accuracy is detected. The corrected images
    have to be a random sample of all answered images (`search.feedback.fair_sample`).

    Args:
        reference: for each of the reference's images, 0 for a wrong answer, 1 for a right one, or
            less than 1 if a right answer is partly due to luck (see `held_to`), (images,).
        new_values: True for each corrected image of the sample that was answered right, (images,).

    References:
        R. A. Fisher (1935): The logic of inductive inference. JRSS 98(1).

    >>> right = np.arange(100) < 95
    >>> AccuracyDetector(right, right).p_value() > 0.5
    True
    >>> AccuracyDetector(right, np.arange(100) < 80).p_value() < 0.01
    True
    """

    name: ClassVar[str] = ACCURACY

    @property
    def size(self) -> str:
        """The change that the test should detect, in words."""
        return f"an accuracy of {self._after:.3f}"

    @property
    def _after(self) -> float:
        """The accuracy on the reference minus `DROP`, at least 0."""
        return max(self._count / self.reference_images - DROP, 0)

    @property
    def _count(self) -> int:
        """Number of right answers on the reference's images, minus the luck, rounded down."""
        return int(np.floor(self.reference.sum() + 1e-6))

    def p_value(self) -> float:
        """p-value: probability of an accuracy at most this low if nothing has changed."""
        now = int(self.new_values.sum())
        return float(lower_p(self._count, self.reference_images, now, self.images))

    def power(self, images: int, reference_images: int, rate: float) -> float:
        """Probability that a change of `size` is detected at this false-alarm rate."""
        count = round(self._count / self.reference_images * reference_images)
        return fall_power(count, reference_images, self._after, images, rate)
