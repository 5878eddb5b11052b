"""The uncertainty of metrics: standard errors, confidence intervals, and comparisons over seeds.

The module contains only pure functions of numbers, so that all other modules can import it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.entries import INTERVAL_LEVEL, Metric
from trainables.statistics import share_bounds

LEVEL = 0.95
"""The default confidence level of an interval."""


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of a candidate with the leader, over the same seeds."""

    difference: float
    """The leader's mean minus the candidate's."""
    error: float
    """The standard error of the difference."""
    p: float
    """The one-sided p-value of the difference, with a Bonferroni correction, at most 1.

    It is the larger of two p-values. One uses the pooled variance, and is multiplied by the number
    of comparisons. The other uses only the variance of this pair, and is multiplied by the number
    of looks at the pair.
    """


@dataclass(frozen=True)
class Expected:
    """The expected value of a candidate: its mean over seeds, with a confidence interval."""

    mean: float
    low: float
    high: float
    std: float
    """The sample standard deviation over seeds."""
    seeds: int


def compare(
    scores: NDArray[np.float64], comparisons: int, looks: int, *, images: float
) -> tuple[int, list[Comparison]]:
    """Find the leader, which has the highest mean, and compare each candidate with it.

    The test is Student's t-test for paired differences (`Comparison.p`).

    Args:
        scores: the scores (higher is better), with shape (candidates, seeds). There must be at
            least two candidates and two seeds.
        comparisons: the total number of comparisons that share the error rate.
        looks: how often the same pair is compared.
        images: the number of steps between the lowest and the highest value of the metric
            (`SearchResult.steps`); the number of images if the metric is a share of them.

    Returns:
        The leader's row in `scores`, and a comparison for each row, in order.
    """
    # Imported here, because the import takes half a second and few commands compare candidates.
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
    """Estimate the variance of a paired difference from all candidates.

    Effects of a seed that all candidates share are removed. Candidates whose scores differ only
    by a constant count as one, since they are not independent.

    Args:
        scores: the scores, with shape (candidates, seeds).

    Returns:
        The variance of a difference for one seed, and its degrees of freedom.
    """
    seeds = scores.shape[1]
    rises = np.round(scores - scores.mean(axis=1, keepdims=True), 9)
    courses = np.array(list(dict.fromkeys(map(tuple, rises.tolist()))))
    freedom = max(1, len(courses) - 1) * (seeds - 1)
    return 2 * float(((courses - courses.mean(axis=0)) ** 2).sum()) / freedom, freedom


def rounding_variance(images: float) -> float:
    """Return the variance of the error from rounding a share to a multiple of 1 / `images`.

    The error is uniformly distributed over an interval of this width.
    """
    return 1 / (12 * images**2)


def expect(
    values: Sequence[float],
    candidates: int,
    level: float = LEVEL,
    *,
    images: float,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Expected:
    """Estimate the expected value of a candidate that was chosen from several, with an interval.

    The interval is based on Student's t-distribution. Its lower end has a Bonferroni correction,
    since the candidate was chosen as the best of several.

    Args:
        values: the values of the candidate, one for each of at least two fresh seeds.
        candidates: the number of candidates from which it was chosen.
        level: the confidence level.
        images: the number of steps between the lowest and the highest value, as for `compare`.
        bounds: the lowest and the highest value of the metric, to which the interval is clipped.
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
    """Return the standard error of a share (0 to 1) that was measured on this number of images."""
    return math.sqrt(share * (1 - share) / images)


def error_of(metric: Metric, metrics: Mapping[str, float], images: int) -> float:
    """Return the standard error of a metric's value on this number of images.

    For a share of the images it is computed. For other metrics it is in `metrics`, next to the
    value. The result is 0 if it is missing there, or if there are no images.
    """
    if not metric.is_share:
        return metrics.get(metric.error_key, 0.0)
    return standard_error(metrics.get(metric.key, math.nan), images) if images else 0.0


def share_interval(share: float, images: int, level: float = INTERVAL_LEVEL) -> tuple[float, float]:
    """Return the exact two-sided confidence interval of a share (Clopper and Pearson 1934).

    Args:
        share: the share that was measured, from 0 to 1.
        images: the number of images on which it was measured.
        level: the confidence level.
    """
    return share_bounds(share, images, (1 - level) / 2)


def interval_of(
    metric: Metric, metrics: Mapping[str, float], images: int
) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of a metric's value on this number of images.

    It is exact for a share of the images. For other metrics it is computed from the reported
    standard error with Student's t-distribution (`Metric.interval`). It is None if there is no
    standard error, or too few images. It is not corrected for the choice of the best trial.
    """
    value = metrics.get(metric.key, math.nan)
    if metric.is_share:
        return share_interval(value, images)
    if metric.error_key not in metrics:
        return None
    freedom = metrics.get(metric.freedom_key, images - 1)
    return metric.interval(value, error_of(metric, metrics, images), freedom)


def student_width(error: float, images: int, error_rate: float) -> float:
    """Return the distance from a mean over images to its confidence bound (Student's t).

    Args:
        error: the standard error of the mean, estimated from the same images.
        images: the number of images.
        error_rate: the one-sided error rate of the bound.
    """
    from scipy.special import stdtrit

    return error * float(stdtrit(max(1, images - 1), 1 - error_rate))


def error_rate_per_look(error_rate: float, looks: int) -> float:
    """Return the error rate of each look if all looks together have `error_rate` (Šidák 1967)."""
    return -math.expm1(math.log1p(-error_rate) / max(1, looks))


def bounds_of(
    metric: Metric, metrics: Mapping[str, float], images: int, error_rate: float
) -> tuple[float, float]:
    """Return the lower and the upper confidence bound of a metric's value, each with `error_rate`.

    They are exact for a share of the images (`share_bounds`). For other metrics they are computed
    with Student's t-distribution (`student_width`).
    """
    value = metrics[metric.key]
    if metric.is_share:
        return share_bounds(value, images, error_rate)
    width = student_width(error_of(metric, metrics, images), images, error_rate)
    return value - width, value + width
