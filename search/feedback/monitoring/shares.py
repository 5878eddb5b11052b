"""Is a share of the new images lower, or another, than that of the reference? Exact for any counts.

Fisher's exact test: if both shares are equal then, given the total of both, the count among the new
images is hypergeometric, whatever the share is. So the false-alarm rate holds for 20 images and for
99 % as for thousands and 50 %; where counts are small it is lower than promised.

References:
    R. A. Fisher (1935): The logic of inductive inference. JRSS 98(1).
    A. Agresti (2002): Categorical Data Analysis, 2nd ed., sections 3.5.1 and 6.5 (power).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

QUANTILES = 41
"""The reference's counts by which power is averaged; 41 differ from all by less than a point."""


def lower_p(before: ArrayLike, of: int, now: ArrayLike, images: int) -> NDArray[np.float64]:
    """Probability of a count as low among the new images, if nothing has changed (one-sided).

    Args:
        before: the counts among the reference's images.
        of: the number of the reference's images.
        now: the counts among the new images.
        images: the number of the new images.

    >>> float(lower_p(95, 100, 15, 20).round(3))
    0.011
    """
    from scipy.stats import hypergeom

    total = np.asarray(before) + np.asarray(now)
    return np.asarray(hypergeom.cdf(now, of + images, total, images), dtype=np.float64)


def other_p(before: NDArray[np.int64], now: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probability of counts as different, for each class: twice the smaller one-sided p."""
    of, images = int(before.sum()), int(now.sum())
    lower = lower_p(before, of, now, images)
    higher = lower_p(of - before, of, images - now, images)
    p: NDArray[np.float64] = np.minimum(1, 2 * np.minimum(lower, higher))
    return p


@lru_cache(maxsize=100_000)
def fall_power(before: float, after: float, of: int, images: int, rate: float) -> float:
    """Probability that `lower_p` is at most `rate` if the share has fallen to `after`.

    It is computed from the test: for each likely count of the reference the largest count of the
    new images that is an alarm is found, and how likely that or a lower one is.

    >>> round(fall_power(0.9, 0.8, 2000, 150, 0.05), 2)
    0.95
    """
    from scipy.stats import binom

    shares = (np.arange(QUANTILES) + 0.5) / QUANTILES
    counts = binom.ppf(shares, of, before)
    # The largest count that is an alarm; -1 where none is.
    low, high = np.full(QUANTILES, -1), np.full(QUANTILES, images)
    while (high - low > 1).any():
        middle = (low + high) // 2
        is_alarm = lower_p(counts, of, np.maximum(middle, 0), images) <= rate
        low, high = np.where(is_alarm, middle, low), np.where(is_alarm, high, middle)
    return float(np.mean(binom.cdf(low, images, after)))


def smoothed(count: int, images: int) -> float:
    """Estimate a share from which power is computed; never 0 or 1 (Jeffreys' prior)."""
    return (count + 0.5) / (images + 1)
