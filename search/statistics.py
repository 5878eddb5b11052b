"""How sure accuracies are: standard errors, intervals, and comparisons over several seeds.

Pure functions of numbers, below all that decides or shows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""The confidence of an interval."""


@dataclass(frozen=True)
class Comparison:
    """One candidate beside the leader, over the seeds that both have."""

    difference: float
    """By how much the leader is better, in accuracy."""
    error: float
    """The standard error of that."""
    p: float
    """How probable a difference as large is between equals (one-sided), times the number of
    comparisons, or by the pair's own differences alone, times the number of looks at the pair,
    whichever is more: at most 1.
    """


@dataclass(frozen=True)
class Expected:
    """What a candidate's accuracy is to be expected to be: a mean over seeds, and an interval for
    it.
    """

    mean: float
    low: float
    high: float
    std: float
    """Between seeds (sample standard deviation)."""
    seeds: int


def compare(
    scores: NDArray[np.float64], comparisons: int, looks: int, *, images: int
) -> tuple[int, list[Comparison]]:
    """Find who leads, and compare each candidate with the leader.

    Args:
        scores: accuracies, (candidates, seeds), at least two of each.
        comparisons: among how many the error rate is shared.
        looks: how many of these are of one pair.
        images: on how many each accuracy was measured.
    """
    from scipy.special import stdtr  # half a second, which verbs that compare nothing need not wait

    seeds = scores.shape[1]
    leader = int(scores.mean(axis=1).argmax())
    pooled, freedom = pooled_variance(scores)
    differences = scores[leader] - scores
    means, own = differences.mean(axis=1), differences.var(axis=1, ddof=1)
    rounding = 2 * rounding_variance(images)
    errors, alone = (np.sqrt((one + rounding) / seeds) for one in (np.maximum(pooled, own), own))
    p = np.maximum(
        comparisons * stdtr(freedom, -means / errors), looks * stdtr(seeds - 1, -means / alone)
    )
    p = np.where(means > 0, np.minimum(1, p), 1)
    found = [Comparison(*map(float, one)) for one in zip(means, errors, p, strict=True)]
    return leader, found


def pooled_variance(scores: NDArray[np.float64]) -> tuple[float, int]:
    """Estimate the variance of a difference from all candidates together; and its degrees of
    freedom.

    Of candidates with the same course over the seeds, whatever their means, one counts.
    """
    seeds = scores.shape[1]
    rises = np.round(scores - scores.mean(axis=1, keepdims=True), 9)
    courses = np.array(list(dict.fromkeys(map(tuple, rises.tolist()))))
    freedom = max(1, len(courses) - 1) * (seeds - 1)
    return 2 * float(((courses - courses.mean(axis=0)) ** 2).sum()) / freedom, freedom


def rounding_variance(images: int) -> float:
    """The variance that an accuracy has for being a whole number of images."""
    return 1 / (12 * images**2)


def expect(
    values: Sequence[float], candidates: int, level: float = LEVEL, *, images: int
) -> Expected:
    """The expected value of the one chosen among so many candidates, from its accuracies with at
    least two fresh seeds on so many images.
    """
    from scipy.special import stdtrit

    count, mean, std = len(values), float(np.mean(values)), float(np.std(values, ddof=1))
    error, tail = math.sqrt((std**2 + rounding_variance(images)) / count), (1 - level) / 2
    low, high = (-float(stdtrit(count - 1, share)) for share in (tail / candidates, tail))
    return Expected(mean, max(0.0, mean - low * error), min(1.0, mean + high * error), std, count)


def standard_error(accuracy: float, images: int) -> float:
    """That of an accuracy on so many images."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


def of_images(accuracy: float, images: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval for a network's accuracy on images of this kind, from so many of them (Wilson's
    score interval).
    """
    from scipy import stats

    found = stats.binomtest(round(accuracy * images), images).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)
