"""Two models on the same images: tests of their difference, and the images that it takes to tell.

Only images count on which one is right and the other wrong (McNemar 1947).
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05
"""The error rate of each test, where all its images decide the first time."""
POWER = 0.8
"""The chance to find a difference that is there, for which images are counted."""
MAX_IMAGES = 10**7


@dataclass(frozen=True)
class Paired:
    """A challenger and a champion on the same images."""

    images: int
    gained: int
    """Those that the challenger alone names right."""
    lost: int
    """Those that the champion alone names right."""

    @classmethod
    def of(cls, champion: NDArray[np.bool_], challenger: NDArray[np.bool_]) -> "Paired":
        """Compare them, given which of the images each names right, (images)."""
        return cls(
            len(champion),
            int((challenger & ~champion).sum()),
            int((champion & ~challenger).sum()),
        )

    @property
    def difference(self) -> float:
        """The challenger's accuracy less the champion's."""
        return (self.gained - self.lost) / self.images if self.images else 0.0

    @property
    def p_better(self) -> float:
        """The probability that equals differ so much in the challenger's favour.

        One-sided and exact: each image that they differ on is a coin's toss.
        """
        from scipy.stats import binom

        return float(binom.sf(self.gained - 1, self.gained + self.lost, 0.5))

    def p_worse_by(self, margin: float) -> float:
        """Return the probability of this, at most, if the challenger were worse by this margin."""
        return 1.0 - NormalDist().cdf(self._score(-margin)) if self.images else 1.0

    def luck(self, least: float) -> float:
        """Return by how much the challenger's accuracy here is likely too high.

        It was taken because it was better on these images by so many standard errors at least.
        Its true difference is estimated by the likelihood of a normal variable that is cut off
        there (Cohen 1959), and taken to be 0 at least: by what is luck the estimate falls.
        """
        from scipy.optimize import brentq

        differing = self.gained + self.lost
        if not self.images or self.gained <= self.lost:
            return 0.0
        normal, error = NormalDist(), math.sqrt(differing)
        found = (self.gained - self.lost) / error

        def expected(true: float) -> float:
            beyond = normal.cdf(true - least)
            return true + normal.pdf(least - true) / beyond - found

        # McNemar's test is exact, and may pass a little below.
        true = brentq(expected, 0.0, found) if expected(0.0) < 0 else 0.0
        return float((found - true) * error / self.images)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval for the difference by score tests (Tango 1998)."""
        from scipy.optimize import brentq

        if not self.images:
            return -1.0, 1.0
        z = NormalDist().inv_cdf((1 + level) / 2)
        end, near = 1 - 1e-9, self.difference

        def bound(wanted: float, towards: float) -> float:
            if abs(near - towards) < 1e-9 or (self._score(towards) - wanted) * wanted < 0:
                return math.copysign(1.0, towards)
            return float(brentq(lambda value: self._score(value) - wanted, near, towards))

        return bound(z, -end), bound(-z, end)

    def _score(self, difference: float) -> float:
        """Return by how many standard errors what was seen is above this true difference.

        The standard error is that of the likeliest shares with this difference.
        """
        count, gained, lost = self.images, self.gained, self.lost
        a, c = 2 * count, -lost * difference * (1 - difference)
        b = -gained - lost + (2 * count - gained + lost) * difference
        share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = count * (2 * share + difference * (1 - difference))
        distance = gained - lost - count * difference
        if variance <= 0:
            return math.copysign(math.inf, distance) if distance else 0.0
        return distance / math.sqrt(variance)


def images_needed(difference: float, differing: float, alpha: float = ALPHA) -> int:
    """Return the images with which a true difference is found as often as `POWER` says.

    Args:
        difference: by how much one is more often right, above 0.
        differing: the share of images on which one is right and the other wrong.
        alpha: the test's error rate.
    """
    normal = NormalDist()
    width = normal.inv_cdf(1 - alpha) * math.sqrt(differing)
    width += normal.inv_cdf(POWER) * math.sqrt(max(0.0, differing - difference**2))
    return min(MAX_IMAGES, math.ceil((width / difference) ** 2))


def difference_found(images: int, differing: float, alpha: float = ALPHA) -> float:
    """Return the least true difference that so many images find as often as `POWER` says.

    It is at most `differing`; infinite where not even that is found.
    """
    steps = np.linspace(0, differing, 1001)[1:]
    found = [step for step in steps if images_needed(float(step), differing, alpha) <= images]
    return float(found[0]) if found else math.inf


def differing_allowed(images: int, margin: float) -> float:
    """Return the share of images on which equals may differ and still pass as not worse.

    Not worse by this margin, that is, as often as `POWER` says.
    """
    return images * (margin / _width()) ** 2


def margin_needed(images: int, differing: float) -> float:
    """Return the margin by which equals pass as not worse that differ on this share of images."""
    return _width() * math.sqrt(differing / images)


def tests_needed(margin: float, differing: float) -> int:
    """Return the images with which equals pass as not worse that differ on this share of them."""
    return math.ceil(differing * (_width() / margin) ** 2)


def _width() -> float:
    """Return the standard errors between equals and a margin by which they pass."""
    normal = NormalDist()
    return normal.inv_cdf(1 - ALPHA) + normal.inv_cdf(POWER)
