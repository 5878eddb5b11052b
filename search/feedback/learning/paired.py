"""Compare two models on the same images: tests, intervals, and the sample sizes that they need.

Only images on which exactly one of the models is right provide evidence of a difference (McNemar
1947).
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05
"""Error rate of each test if all its images are used for the first time (`round_alpha`)."""
POWER = 0.8
"""Required probability of detecting a true difference. Sample sizes are computed for it."""
MAX_IMAGES = 10**7
"""Largest result of `images_needed`."""


@dataclass(frozen=True)
class PairedComparison:
    """The results of a challenger and a champion on the same images."""

    images: int
    gained: int
    """Number of images that only the challenger classifies correctly."""
    lost: int
    """Number of images that only the champion classifies correctly."""

    @classmethod
    def of(cls, champion: NDArray[np.bool_], challenger: NDArray[np.bool_]) -> "PairedComparison":
        """Compare two models. Each array is True for images classified correctly, (images,)."""
        return cls(
            len(champion),
            int((challenger & ~champion).sum()),
            int((champion & ~challenger).sum()),
        )

    @property
    def difference(self) -> float:
        """The challenger's accuracy minus the champion's; 0 without images."""
        return (self.gained - self.lost) / self.images if self.images else 0.0

    @property
    def p_better(self) -> float:
        """p-value of the hypothesis that the challenger is not better.

        This is McNemar's exact test, one-sided: under the hypothesis, each image on which exactly
        one model is right is a fair coin toss.
        """
        from scipy.stats import binom

        return float(binom.sf(self.gained - 1, self.gained + self.lost, 0.5))

    def p_worse_by(self, margin: float) -> float:
        """p-value of the hypothesis that the challenger is worse by this margin; 1 without images.

        This is the score test of Tango (1998), one-sided.
        """
        return 1.0 - NormalDist().cdf(self._score(-margin)) if self.images else 1.0

    def luck(self, least: float) -> float:
        """Estimate by how much the challenger's accuracy on these images is too high, as a share.

        The challenger was selected because it was better on them by at least `least` standard
        errors. Therefore the true difference is estimated by maximum likelihood for a normal
        variable that is truncated there (Cohen 1959); the estimate is at least 0. Luck is the
        observed difference minus this estimate.
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
        """Score confidence interval for the difference (Tango 1998); (-1, 1) without images."""
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
        """Score statistic: the observed minus the assumed difference, in standard errors.

        The standard error is that of the maximum-likelihood shares under the assumed difference.
        """
        # `share` is the share of lost images that maximises the likelihood of the counts under the
        # assumed difference: the larger root of a q^2 + b q + c = 0 (Tango 1998).
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
    """Number of images with which a true difference is detected with probability `POWER`.

    The result is at most `MAX_IMAGES`.

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
    """Smallest true difference that is detected with this number of images and power `POWER`.

    It is infinite if even the largest possible difference, `differing`, is not detected. The
    arguments are those of `images_needed`.
    """
    steps = np.linspace(0, differing, 1001)[1:]
    detectable = [step for step in steps if images_needed(float(step), differing, alpha) <= images]
    return float(detectable[0]) if detectable else math.inf


def max_disagreement(images: int, margin: float) -> float:
    """Largest share of images on which an equally good challenger may disagree with the champion.

    Up to this share, the test with this margin shows with probability `POWER` that the challenger
    is not worse. The result may exceed 1.
    """
    return images * (margin / _margin_errors()) ** 2


def margin_needed(images: int, differing: float) -> float:
    """Margin with which an equally good challenger passes the test with probability `POWER`.

    `differing` is the share of images on which it disagrees with the champion.
    """
    return _margin_errors() * math.sqrt(differing / images)


def required_test_images(margin: float, differing: float) -> int:
    """Number of images on which an equally good challenger passes with probability `POWER`.

    `differing` is the share of images on which it disagrees with the champion.
    """
    return math.ceil(differing * (_margin_errors() / margin) ** 2)


def _margin_errors() -> float:
    """Margin, in standard errors, that an equally good model passes with probability `POWER`."""
    normal = NormalDist()
    return normal.inv_cdf(1 - ALPHA) + normal.inv_cdf(POWER)
