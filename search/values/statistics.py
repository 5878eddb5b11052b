"""The uncertainty of accuracies: standard errors, intervals, and comparisons over several seeds.

Pure functions of numbers, below all modules that decide or show.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.tasks import INTERVAL_LEVEL, Metric

LEVEL = 0.95
"""The confidence level of an interval."""


@dataclass(frozen=True)
class Comparison:
    """A comparison of a candidate with the leader, over the seeds that both have."""

    difference: float
    """The leader's value less the candidate's."""
    error: float
    """The standard error of the difference."""
    p: float
    """The probability of so large a difference between equals (one-sided), corrected, at most 1.

    It is the larger of two: the probability times the number of comparisons, and the probability by
    only the pair's own differences, times the number of looks at the pair.
    """


@dataclass(frozen=True)
class Expected:
    """The expected value of a candidate: a mean over seeds, and an interval for it."""

    mean: float
    low: float
    high: float
    std: float
    """The sample standard deviation between seeds."""
    seeds: int


def compare(
    scores: NDArray[np.float64], comparisons: int, looks: int, *, images: float
) -> tuple[int, list[Comparison]]:
    """Find the leader, and compare each candidate with it.

    Args:
        scores: accuracies, (candidates, seeds), at least two of each.
        comparisons: the number of comparisons that share the error rate.
        looks: the number of these that are of one pair.
        images: the steps in which a value moves from image to image (`SearchResult.steps`); for a
            share of the images it is their number.

    Returns:
        The leader's row, and a comparison for each row.
    """
    # Imported here because it takes half a second, and few commands compare anything.
    from scipy.special import stdtr

    seeds = scores.shape[1]
    leader = int(scores.mean(axis=1).argmax())
    pooled, freedom = pooled_variance(scores)
    differences = scores[leader] - scores
    means, own = differences.mean(axis=1), differences.var(axis=1, ddof=1)
    rounding = 2 * rounding_variance(images)
    errors, own_errors = (
        np.sqrt((variance + rounding) / seeds) for variance in (np.maximum(pooled, own), own)
    )
    p = np.maximum(
        comparisons * stdtr(freedom, -means / errors), looks * stdtr(seeds - 1, -means / own_errors)
    )
    p = np.where(means > 0, np.minimum(1, p), 1)
    compared = [Comparison(*map(float, row)) for row in zip(means, errors, p, strict=True)]
    return leader, compared


def pooled_variance(scores: NDArray[np.float64]) -> tuple[float, int]:
    """Estimate the variance of a difference from all candidates, with its degrees of freedom.

    Candidates with the same course over the seeds, whatever their means, count as one.
    """
    seeds = scores.shape[1]
    rises = np.round(scores - scores.mean(axis=1, keepdims=True), 9)
    courses = np.array(list(dict.fromkeys(map(tuple, rises.tolist()))))
    freedom = max(1, len(courses) - 1) * (seeds - 1)
    return 2 * float(((courses - courses.mean(axis=0)) ** 2).sum()) / freedom, freedom


def rounding_variance(images: float) -> float:
    """Return the variance that a share has for being a whole number of images."""
    return 1 / (12 * images**2)


def expect(
    values: Sequence[float],
    candidates: int,
    level: float = LEVEL,
    *,
    images: float,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Expected:
    """Return the expected value of the candidate that was chosen among `candidates`.

    `values` are its own with at least two fresh seeds, each on `images` (as `compare` takes them).
    """
    from scipy.special import stdtrit

    count, mean, std = len(values), float(np.mean(values)), float(np.std(values, ddof=1))
    error, tail = math.sqrt((std**2 + rounding_variance(images)) / count), (1 - level) / 2
    low, high = (-float(stdtrit(count - 1, share)) for share in (tail / candidates, tail))
    lowest, highest = bounds
    return Expected(
        mean, max(lowest, mean - low * error), min(highest, mean + high * error), std, count
    )


def standard_error(share: float, images: int) -> float:
    """Return the standard error of a share of this number of images."""
    return math.sqrt(share * (1 - share) / images)


def error_of(metric: Metric, metrics: Mapping[str, float], images: int) -> float:
    """Return the standard error of a metric's value on this number of images.

    For a share of the images it is computed; another metric reports it beside its value. It is 0
    where it was not reported.
    """
    if not metric.is_share:
        return metrics.get(metric.error_key, 0.0)
    return standard_error(metrics.get(metric.key, math.nan), images) if images else 0.0


def share_interval(share: float, images: int, level: float = INTERVAL_LEVEL) -> tuple[float, float]:
    """Return the interval for a share of all images of this kind, from that of a sample of them.

    It is exact (`share_bounds`), with half of the error on either side.
    """
    return share_bounds(share, images, (1 - level) / 2)


def interval_of(
    metric: Metric, metrics: Mapping[str, float], images: int
) -> tuple[float, float] | None:
    """Return the 95 % interval for a metric's value on this number of images.

    It is exact for a share of the images, otherwise Student's t with what was reported beside the
    value (`Metric.interval`); None where there are too few images for one. It is not corrected for
    the choice of the best of several trials.
    """
    value = metrics.get(metric.key, math.nan)
    if metric.is_share:
        return share_interval(value, images)
    if metric.error_key not in metrics:
        return None
    freedom = metrics.get(metric.freedom_key, images - 1)
    return metric.interval(value, error_of(metric, metrics, images), freedom)


def share_bounds(share: float, images: int, error_rate: float) -> tuple[float, float]:
    """Return bounds of a share, each wrong at most at this error rate.

    They are exact, by the binomial distribution (Clopper and Pearson 1934).
    """
    from scipy.special import betaincinv

    right = round(share * images)
    low = float(betaincinv(right, images - right + 1, error_rate)) if right else 0.0
    high = float(betaincinv(right + 1, images - right, 1 - error_rate)) if right < images else 1.0
    return low, high


def student_width(error: float, images: int, error_rate: float) -> float:
    """Return the one-sided half-width of a mean over images at this error rate (Student's t).

    Args:
        error: its standard error, estimated from the same images.
        images: their number.
        error_rate: the share of means that are farther off.
    """
    from scipy.special import stdtrit

    return error * float(stdtrit(max(1, images - 1), 1 - error_rate))


def error_rate_per_look(error_rate: float, looks: int) -> float:
    """Return the error rate of each look, of several that together have this one (Šidák 1967)."""
    return -math.expm1(math.log1p(-error_rate) / max(1, looks))


def bounds_of(
    metric: Metric, metrics: Mapping[str, float], images: int, error_rate: float
) -> tuple[float, float]:
    """Return bounds of a metric's value on these images, each wrong at most at this error rate.

    They are exact for a share of the images (`share_bounds`), else by Student's t.
    """
    value = metrics[metric.key]
    if metric.is_share:
        return share_bounds(value, images, error_rate)
    width = student_width(error_of(metric, metrics, images), images, error_rate)
    return value - width, value + width


def difference_bounds(
    values: tuple[float, float],
    bounds: tuple[tuple[float, float], tuple[float, float]],
) -> tuple[float, float]:
    """Return bounds of the first value less the second, of independent measurements.

    The distances to the bounds of the two are added in squares (Zou and Donner 2008; of shares
    Newcombe 1998, method 10).

    Args:
        values: both values.
        bounds: the lower bound of the first and the upper of the second, from which the lower bound
            of the difference comes; then the upper of the first and the lower of the second.
    """
    low, high = (
        math.hypot(*(value - end for value, end in zip(values, ends, strict=True)))
        for ends in bounds
    )
    difference = values[0] - values[1]
    return difference - low, difference + high
