"""The base class of the monitor's tests: each states the change that it would detect."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
POWER = 0.8
"""Required probability of detecting a change of the stated size."""
MAX_NEW_IMAGES, MAX_REFERENCE_IMAGES = 10_000, 2_000
"""Maximum number of new images that are tested, and of images in a reference."""
DECIMALS = 4
"""Decimals of the probabilities that are compared."""


@dataclass(frozen=True)
class Detector(ABC):
    """A two-sample test that detects whether new images differ from those of the reference.

    The caller chooses the false-alarm rate, and reports a change if `p_value()` is at most this
    rate. `power` computes the power of the same test: the probability that `p_value()` is at most
    the rate if the new images have changed as `size` describes.
    """

    name: ClassVar[str]
    reference: Values
    new_values: NDArray[Any]
    """The values to compare, of the reference's images and of the new ones, (images, ...)."""

    @property
    def images(self) -> int:
        """The number of new images."""
        return len(self.new_values)

    @property
    def reference_images(self) -> int:
        """The number of the reference's images."""
        return len(self.reference)

    @property
    @abstractmethod
    def size(self) -> str:
        """The change that the test should detect, in words."""

    @abstractmethod
    def p_value(self) -> float:
        """p-value: probability of a difference at least this large if nothing has changed."""

    @abstractmethod
    def power(self, images: int, reference_images: int, rate: float) -> float:
        """Probability that a change of `size` is detected at this false-alarm rate.

        `images` is the number of new images.
        """

    def images_needed(self, rate: float) -> int | None:
        """Smallest number of new images that detects the change with probability `POWER`.

        It is None if even `MAX_NEW_IMAGES` are too few with this reference.
        """
        return _smallest_sufficient(
            lambda n: self.power(n, self.reference_images, rate), MAX_NEW_IMAGES
        )

    def reference_images_needed(self, rate: float) -> int | None:
        """Smallest number of reference images with which `MAX_NEW_IMAGES` new ones are enough.

        It is None if even `MAX_REFERENCE_IMAGES` are too few.
        """
        return _smallest_sufficient(
            lambda n: self.power(MAX_NEW_IMAGES, n, rate), MAX_REFERENCE_IMAGES
        )


def _smallest_sufficient(power: Callable[[int], float], most: int) -> int | None:
    """Find the smallest number of images with enough power; None if it is above `most`."""
    if power(most) < POWER:
        return None
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def round_probabilities(probabilities: NDArray[np.floating]) -> Values:
    """Round probabilities so that those of records and references can be compared.

    Records have fewer digits than references, and runtimes differ in the last digits: without
    rounding, 1 and 0.9999998 would count as different values.
    """
    values: Values = probabilities.astype(np.float64).round(DECIMALS)
    return values
