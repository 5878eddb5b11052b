"""Confidence bounds of shares, and of differences of two independent values."""

import math


def share_bounds(share: float, images: int, error_rate: float) -> tuple[float, float]:
    """Return the lower and the upper confidence bound of a share.

    They are exact for a binomial distribution (Clopper and Pearson 1934).

    Args:
        share: the share that was measured, from 0 to 1.
        images: the number of images on which it was measured.
        error_rate: the one-sided error rate of each bound.
    """
    from scipy.special import betaincinv

    right = round(share * images)
    low = float(betaincinv(right, images - right + 1, error_rate)) if right else 0.0
    high = float(betaincinv(right + 1, images - right, 1 - error_rate)) if right < images else 1.0
    return low, high


def difference_bounds(
    values: tuple[float, float],
    bounds: tuple[tuple[float, float], tuple[float, float]],
) -> tuple[float, float]:
    """Return the confidence bounds of the difference of two independent values, first minus second.

    The distance from the difference to its bound is the root of d1² + d2², where d1 and d2 are the
    distances from the two values to their own bounds (Zou and Donner 2008; for shares Newcombe
    1998, method 10).

    Args:
        values: the two values.
        bounds: two pairs of bounds of the two values. The first pair gives the lower bound of the
            difference: (lower bound of the first value, upper bound of the second). The second
            pair gives its upper bound: (upper bound of the first, lower bound of the second).
    """
    low, high = (
        math.hypot(*(value - end for value, end in zip(values, ends, strict=True)))
        for ends in bounds
    )
    difference = values[0] - values[1]
    return difference - low, difference + high
