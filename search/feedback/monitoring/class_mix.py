"""Test whether the model predicts each class as often as before."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from search.feedback.monitoring.detector import Detector
from search.feedback.monitoring.shares import difference_p, estimate_share, fall_power, interval

MIX = "class mix"


@dataclass(frozen=True)
class ClassShare:
    """The share of images for which a class is predicted, in the reference and among new ones."""

    name: str
    before: float
    now: float
    low: float
    high: float
    """The bounds of the confidence interval of `now`. The intervals of all classes hold
    simultaneously with a probability of 95 %.
    """
    changed: bool
    """True if the share has changed significantly (`ClassMixDetector`)."""


@dataclass(frozen=True)
class ClassMixDetector(Detector):
    """Compare how often each class is predicted for new images and for the reference.

    This is Fisher's exact test of each class's count, with Bonferroni's correction for the number
    of classes: the mix has changed if the share of at least one class has. The test needs only the
    predicted classes. They differ from the true ones, since a model is sometimes wrong. But if
    nothing has changed, the model errs in the same way as before, so the test is valid.

    Args:
        reference: probabilities on the reference's images, (images, classes).
        new_values: probabilities on the new images, (images, classes).
        classes: the names of the classes.

    References:
        Z. Lipton, Y.-X. Wang, A. Smola (2018): Detecting and Correcting for Label Shift with Black
        Box Predictors. ICML.
        O. J. Dunn (1961): Multiple comparisons among means. JASA 56(293).

    >>> before, now = np.eye(2)[[0] * 50 + [1] * 50], np.eye(2)[[0] * 10 + [1] * 40]
    >>> ClassMixDetector(before, now, ("cat", "dog")).p_value() < 0.01
    True
    """

    name: ClassVar[str] = MIX
    classes: tuple[str, ...]

    @cached_property
    def before(self) -> NDArray[np.int64]:
        """Number of the reference's images for which each class is predicted, (classes,)."""
        return np.bincount(self.reference.argmax(axis=1), minlength=len(self.classes))

    @cached_property
    def now(self) -> NDArray[np.int64]:
        """Number of the new images for which each class is predicted, (classes,)."""
        return np.bincount(self.new_values.argmax(axis=1), minlength=len(self.classes))

    @cached_property
    def stated_change(self) -> tuple[int, float, float]:
        """The change that the test should detect: a class, its share before, and its share after.

        The class is the one of median frequency. Its share doubles, or rises halfway to 1 if that
        is less. If there are only two classes, the first one is used. Choosing the rarer class
        would be biased, since its share in the reference probably underestimates its true share.
        """
        count = len(self.classes)
        number = int(np.argsort(self.before, kind="stable")[count // 2]) if count > 2 else 0
        share = estimate_share(int(self.before[number]), self.reference_images)
        after = min(2 * share, (1 + share) / 2)
        return number, float(self.before[number] / self.reference_images), after

    @property
    def size(self) -> str:
        """The change that the test should detect, in words."""
        number, before, after = self.stated_change
        name = self.classes[number]
        return f"'{name}' predicted for {percent(after)} instead of {percent(before)}"

    def p_value(self) -> float:
        """p-value: probability of a difference at least this large if nothing has changed."""
        return min(1.0, len(self.classes) * float(difference_p(self.before, self.now).min()))

    def power(self, images: int, reference_images: int, rate: float) -> float:
        """Probability that a change of `size` is detected at this false-alarm rate."""
        _, before, after = self.stated_change
        # `fall_power` is for a falling share. If the share of the class rises, that of all other
        # classes together falls. The test is two-sided, so each side has half of the rate.
        class_rate = rate / len(self.classes) / 2
        other_count = round((1 - before) * reference_images)
        return fall_power(other_count, reference_images, 1 - after, images, class_rate)

    def shares(self, rate: float) -> list[ClassShare]:
        """List each class's share. `rate` is the false-alarm rate of all classes together."""
        count, images = len(self.classes), self.images
        return [
            ClassShare(
                name,
                float(self.before[number] / self.reference_images),
                float(self.now[number] / images),
                *interval(float(self.now[number] / images), images, count),
                changed=bool(p <= rate / count),
            )
            for number, (name, p) in enumerate(
                zip(self.classes, difference_p(self.before, self.now), strict=True)
            )
        ]


def percent(share: float) -> str:
    """Format a share as a percentage: `7 %`, or `0.4 %` if it is below one percent."""
    return f"{100 * share:.{0 if share >= 0.01 else 1}f} %"
