"""Two models on the same images: tests of their difference, and the images that these need.

Only the images count on which one model is right and the other wrong (McNemar 1947).
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05
"""The error rate of each test, where all its images decide for the first time."""
POWER = 0.8
"""The probability of detecting a true difference, for which the images are counted."""
MAX_IMAGES = 10**7
"""The upper limit of `images_needed`."""


@dataclass(frozen=True)
class PairedComparison:
    """A challenger and a champion on the same images."""

    images: int
    gained: int
    """Images that only the challenger classifies right."""
    lost: int
    """Images that only the champion classifies right."""

    @classmethod
    def of(cls, champion: NDArray[np.bool_], challenger: NDArray[np.bool_]) -> "PairedComparison":
        """Compare two models, given the images that each classifies right, (images,) each."""
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
        """p-value of the hypothesis that the challenger is not better.

        One-sided and exact: each image on which they differ is a fair coin toss.
        """
        from scipy.stats import binom

        return float(binom.sf(self.gained - 1, self.gained + self.lost, 0.5))

    def p_worse_by(self, margin: float) -> float:
        """p-value of the hypothesis that the challenger is worse by this margin."""
        return 1.0 - NormalDist().cdf(self._score(-margin)) if self.images else 1.0

    def luck(self, least: float) -> float:
        """Estimate by how much the challenger's accuracy on these images is too high.

        It was selected because it was better on them by at least `least` standard errors. The true
        difference is the maximum-likelihood estimate for a normal variable that is truncated there
        (Cohen 1959), and at least 0; luck is the observed difference less this estimate.
        """
        from scipy.optimize import brentq

        differing = self.gained + self.lost
        if not self.images or self.gained <= self.lost:
            return 0.0
        normal, error = NormalDist(), math.sqrt(differing)
        score = (self.gained - self.lost) / error

        def expected(true: float) -> float:
            beyond = normal.cdf(true - least)
            return true + normal.pdf(least - true) / beyond - score

        # McNemar's test is exact: a challenger may pass with a score a little below `least`.
        true = brentq(expected, 0.0, score) if expected(0.0) < 0 else 0.0
        return float((score - true) * error / self.images)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval for the difference by score tests (Tango 1998)."""
        from scipy.optimize import brentq

        if not self.images:
            return -1.0, 1.0
        z = NormalDist().inv_cdf((1 + level) / 2)
        end, near = 1 - 1e-9, self.difference

        def bound(target: float, towards: float) -> float:
            if abs(near - towards) < 1e-9 or (self._score(towards) - target) * target < 0:
                return math.copysign(1.0, towards)
            return float(brentq(lambda value: self._score(value) - target, near, towards))

        return bound(z, -end), bound(-z, end)

    def _score(self, difference: float) -> float:
        """The observed difference less this true one, in standard errors.

        The standard error is that of the most likely shares with this difference.
        """
        # `share`, of the lost images, maximises the likelihood of the counts if this is the true
        # difference: the larger root of a q^2 + b q + c = 0 (Tango 1998).
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
    """Images with which a true difference is detected with probability `POWER`.

    Args:
        difference: the difference of the accuracies, above 0.
        differing: the share of images on which one model is right and the other wrong.
        alpha: the error rate of the test.
    """
    normal = NormalDist()
    width = normal.inv_cdf(1 - alpha) * math.sqrt(differing)
    width += normal.inv_cdf(POWER) * math.sqrt(max(0.0, differing - difference**2))
    return min(MAX_IMAGES, math.ceil((width / difference) ** 2))


def detectable_difference(images: int, differing: float, alpha: float = ALPHA) -> float:
    """Smallest true difference that is detected on these images with probability `POWER`.

    It is at most `differing`; infinite if not even that is detected.
    """
    steps = np.linspace(0, differing, 1001)[1:]
    detectable = [step for step in steps if images_needed(float(step), differing, alpha) <= images]
    return float(detectable[0]) if detectable else math.inf


def max_disagreement(images: int, margin: float) -> float:
    """Share of images on which equally good models may differ and still pass as not worse.

    They pass by this margin with probability `POWER`.
    """
    return images * (margin / _margin_errors()) ** 2


def margin_needed(images: int, differing: float) -> float:
    """Margin with which equally good models that differ on this share of images pass."""
    return _margin_errors() * math.sqrt(differing / images)


def required_test_images(margin: float, differing: float) -> int:
    """Images with which equally good models that differ on this share of them pass as not worse."""
    return math.ceil(differing * (_margin_errors() / margin) ** 2)


def _margin_errors() -> float:
    """The margin in standard errors with which equally good models pass."""
    normal = NormalDist()
    return normal.inv_cdf(1 - ALPHA) + normal.inv_cdf(POWER)
