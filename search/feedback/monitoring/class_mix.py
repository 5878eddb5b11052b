"""Does the model name each class as often as it did?"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from search.feedback.monitoring.detector import Detector
from search.feedback.monitoring.shares import fall_power, interval, other_p, smoothed

MIX = "class mix"


@dataclass(frozen=True)
class ClassShare:
    """The share of the images for which a class is named: of earlier ones, and of new ones."""

    name: str
    before: float
    now: float
    low: float
    high: float
    """The ends of the interval of `now`; those of all classes hold together with 95 %."""
    changed: bool
    """True if the class is named more or less often than noise explains (`ClassMixDetector`)."""


@dataclass(frozen=True)
class ClassMixDetector(Detector):
    """Compare how often each class is named for new images and for the reference.

    Fisher's exact test of each class's count, with Bonferroni's correction for the number of
    classes: the mix has changed if at least one class's share has. It is black-box shift detection
    by the classes that are named. These are not the classes that are there, since a model is
    sometimes wrong; but if nothing has changed it is wrong in the same way, so the test holds.

    Args:
        reference: probabilities on the reference's images, (images, classes).
        seen: those on the new images, (images, classes).
        classes: their names.

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
        """The number of the reference's images named as each class, (classes,)."""
        return np.bincount(self.reference.argmax(axis=1), minlength=len(self.classes))

    @cached_property
    def now(self) -> NDArray[np.int64]:
        """The number of the new images named as each class, (classes,)."""
        return np.bincount(self.seen.argmax(axis=1), minlength=len(self.classes))

    @cached_property
    def stated(self) -> tuple[int, float, float]:
        """The class of the stated change, its share of the reference, and its share after it.

        It is the class of median frequency, whose share doubles, or rises half the way to 1 if that
        is less. Of two it is the first: the rarer one is likely less rare than in the reference.
        """
        count = len(self.classes)
        number = int(np.argsort(self.before, kind="stable")[count // 2]) if count > 2 else 0
        share = smoothed(int(self.before[number]), self.reference_images)
        after = min(2 * share, (1 + share) / 2)
        return number, float(self.before[number] / self.reference_images), after

    @property
    def size(self) -> str:
        """The change that ought to be detected, in words."""
        number, before, after = self.stated
        return f"'{self.classes[number]}' named for {percent(after)}, {percent(before)} before"

    def p_value(self) -> float:
        """Probability of so large a difference, or a larger one, if nothing has changed."""
        return min(1.0, len(self.classes) * float(other_p(self.before, self.now).min()))

    def power(self, images: int, reference_images: int, rate: float) -> float:
        """Probability that a change of `size` is detected at this false-alarm rate."""
        _, before, after = self.stated
        # A share that rises is one of all others that falls; each side has half of the rate.
        own = rate / len(self.classes) / 2
        others = round((1 - before) * reference_images)
        return fall_power(others, reference_images, 1 - after, images, own)

    def shares(self, rate: float) -> list[ClassShare]:
        """List how often each class is named, and whether that has changed at this rate."""
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
                zip(self.classes, other_p(self.before, self.now), strict=True)
            )
        ]


def percent(share: float) -> str:
    """Write a share as people read it: `7 %`, below one percent `0.4 %`."""
    return f"{100 * share:.{0 if share >= 0.01 else 1}f} %"
