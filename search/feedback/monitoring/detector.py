"""The base of each test of the monitor: it decides, and states what it would have detected."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
POWER = 0.8
"""The probability with which a change of the stated size is to be detected."""
MOST_IMAGES, MOST_REFERENCE = 10_000, 2_000
"""The most new images that are tested, and the most images that a reference keeps."""
DECIMALS = 4
"""Of probabilities that are compared."""


@dataclass(frozen=True)
class Detector(ABC):
    """A two-sample test: are new images as those of the reference?

    Its false-alarm rate is the caller's: a change is reported if `p_value()` is at most that. The
    stated power belongs to the same test: `power` computes how often `p_value()` would be at most
    the rate if `size` described the new images, for any numbers of images.
    """

    name: ClassVar[str]
    reference: Values
    seen: NDArray[Any]
    """What is compared, of each image of the reference and of each new one, (images, ...)."""

    @property
    def images(self) -> int:
        """The number of new images."""
        return len(self.seen)

    @property
    def reference_images(self) -> int:
        """The number of the reference's images."""
        return len(self.reference)

    @property
    @abstractmethod
    def size(self) -> str:
        """The change that ought to be detected, in words."""

    @abstractmethod
    def p_value(self) -> float:
        """Probability of so large a difference, or a larger one, if nothing has changed."""

    @abstractmethod
    def power(self, images: int, reference_images: int, rate: float) -> float:
        """Probability that a change of `size` is detected at this false-alarm rate."""

    def needed(self, rate: float) -> int | None:
        """Least number of new images that detect the change beside this reference; None if none."""
        return _least(lambda n: self.power(n, self.reference_images, rate), MOST_IMAGES)

    def needed_reference(self, rate: float) -> int | None:
        """Least number of reference images with which some number of new ones is enough."""
        return _least(lambda n: self.power(MOST_IMAGES, n, rate), MOST_REFERENCE)


def _least(power: Callable[[int], float], most: int) -> int | None:
    """Find the least number of images whose power is enough, by bisection."""
    if power(most) < POWER:
        return None
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def rounded(probabilities: NDArray[np.floating]) -> Values:
    """Round probabilities to the digits that a record and a reference share.

    Records have fewer digits than a reference, and another runtime differs in the last ones: where
    a model is nearly certain, 1 and 0.9999998 would count as different values.
    """
    values: Values = probabilities.astype(np.float64).round(DECIMALS)
    return values
