"""Exact tests that compare a share of the new images with the same share of the reference's images.

They are Fisher's exact test, one-sided or two-sided. If the two shares are equal, then the count
among the new images, given the total count, has a hypergeometric distribution that does not depend
on the share. So the stated false-alarm rate holds for 20 images and a share of 99 % as well as for
thousands of images and 50 %. If counts are small, the actual rate is lower than stated.

References:
    R. A. Fisher (1935): The logic of inductive inference. JRSS 98(1).
    C. Clopper, E. Pearson (1934): The use of confidence or fiducial limits. Biometrika 26(4).
    A. Agresti (2002): Categorical Data Analysis, 2nd ed., sections 3.5.1 and 6.5 (power).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.values.statistics import LEVEL
from trainables.statistics import share_bounds

RESERVE = 0.01
"""Addition to the level of confidence intervals. It is needed because real images are never quite a
random sample: people skip some images, and the sample ends with an image that was corrected.
"""


def lower_p(
    before: ArrayLike, reference_images: int, now: ArrayLike, images: int
) -> NDArray[np.float64]:
    """One-sided p-value: probability of a count of at most `now` if nothing has changed.

    Args:
        before: the counts among the reference's images.
        reference_images: the number of the reference's images.
        now: the counts among the new images.
        images: the number of the new images.

    >>> float(lower_p(95, 100, 15, 20).round(3))
    0.011
    """
    from scipy.stats import hypergeom

    total = np.asarray(before) + np.asarray(now)
    return np.asarray(
        hypergeom.cdf(now, reference_images + images, total, images), dtype=np.float64
    )


def difference_p(before: NDArray[np.int64], now: NDArray[np.int64]) -> NDArray[np.float64]:
    """Two-sided p-value of each class: twice the smaller one-sided p-value, at most 1, (classes,).

    Args:
        before: the number of the reference's images in each class, (classes,).
        now: the number of the new images in each class, (classes,).
    """
    reference_images, images = int(before.sum()), int(now.sum())
    lower = lower_p(before, reference_images, now, images)
    higher = lower_p(reference_images - before, reference_images, images - now, images)
    p: NDArray[np.float64] = np.minimum(1, 2 * np.minimum(lower, higher))
    return p


@lru_cache(maxsize=100_000)
def fall_power(before: int, reference_images: int, after: float, images: int, rate: float) -> float:
    """Power of `lower_p`: probability that it is at most `rate` if the share has fallen to `after`.

    The power is conditional on the reference, so no assumption about its true share is needed. The
    largest count of new images that raises an alarm is found by bisection. The power is the
    probability of at most that count.

    Args:
        before: the count among the reference's images.
        reference_images: the number of the reference's images.
        after: the true share of the new images.
        images: the number of the new images.
        rate: the false-alarm rate.

    >>> round(fall_power(1800, 2000, 0.8, 150, 0.05), 2)
    0.94
    """
    from scipy.stats import binom

    alarm, no_alarm = -1, images + 1
    while no_alarm - alarm > 1:
        middle = (alarm + no_alarm) // 2
        is_alarm = lower_p(before, reference_images, middle, images) <= rate
        alarm, no_alarm = (middle, no_alarm) if is_alarm else (alarm, middle)
    return float(binom.cdf(alarm, images, after))


def interval(share: float, images: int, classes: int = 1) -> tuple[float, float]:
    """95 % confidence interval of a share (Clopper and Pearson), widened by `RESERVE`.

    Args:
        share: the share of the images.
        images: the number of images.
        classes: the number of shares whose intervals have to hold simultaneously (Bonferroni).
    """
    return share_bounds(share, images, (1 - LEVEL - RESERVE) / 2 / classes)


def estimate_share(count: int, images: int) -> float:
    """Estimate a share with Jeffreys' prior, so that it is never 0 or 1."""
    return (count + 0.5) / (images + 1)
