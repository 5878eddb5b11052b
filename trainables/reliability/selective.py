"""The lowest probability at which a classifier answers, so that few of its answers are wrong.

The guarantee holds with a stated confidence for new images that are drawn like the held-out ones
(selection with guaranteed risk: Geifman and El-Yaniv 2017, "Selective Classification for Deep
Neural Networks", algorithm 2).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.statistics.intervals import share_bounds

CONFIDENCE = 0.95
"""The probability with which a guarantee holds, over the choice of the held-out images."""


@dataclass(frozen=True)
class AnswerThreshold:
    """A threshold for the probability of the most probable class, and its guarantee."""

    threshold: float
    """The classifier answers if the probability is at least this."""
    images: int
    """The number of held-out images."""
    answers: int
    """The number of held-out images that are answered."""
    wrong: int
    """The number of wrong answers among these."""
    bound: float
    """The upper confidence bound for the share of wrong answers."""


def select_threshold(
    confidence: NDArray[np.float64], is_right: NDArray[np.bool_], max_error: float
) -> AnswerThreshold | None:
    """Find a low threshold at which at most `max_error` of the answers are wrong.

    With a probability of at least `CONFIDENCE`, the bound holds for new images too. The search is a
    bisection of ceil(log2(images)) steps, each of which tests one threshold at an equal share of
    the error probability (Bonferroni).

    Args:
        confidence: the probability of the most probable class of each held-out image, (images,).
        is_right: True for each image whose most probable class is the true one, (images,).
        max_error: the largest allowed share of wrong answers, above 0 and below 1.

    Returns:
        None if no tested threshold is good enough, because there are too few images or too many
        mistakes.
    """
    ascending = np.sort(confidence)
    low, high = 0, len(ascending) - 1
    best = None
    while low <= high:
        middle = (low + high) // 2
        selection = _selection_at(float(ascending[middle]), confidence, is_right)
        if selection.bound <= max_error:
            best, high = selection, middle - 1
        else:
            low = middle + 1
    return best


def smallest_error(confidence: NDArray[np.float64], is_right: NDArray[np.bool_]) -> float | None:
    """Return the smallest `max_error` for which `select_threshold` finds a threshold.

    It is a multiple of 0.1 %; None if there is none below 50 %.
    """
    return next(
        (
            per_mille / 1000
            for per_mille in range(1, 500)
            if select_threshold(confidence, is_right, per_mille / 1000) is not None
        ),
        None,
    )


def _selection_at(
    threshold: float, confidence: NDArray[np.float64], is_right: NDArray[np.bool_]
) -> AnswerThreshold:
    is_answered = confidence >= threshold
    answers, right = int(is_answered.sum()), int(is_right[is_answered].sum())
    steps = max(1, math.ceil(math.log2(max(2, len(confidence) + 1))))
    bound = upper_bound(answers - right, answers, (1 - CONFIDENCE) / steps)
    return AnswerThreshold(threshold, len(confidence), answers, answers - right, bound)


def upper_bound(wrong: int, answers: int, risk: float) -> float:
    """Return the upper confidence bound for a share (Clopper and Pearson 1934).

    Args:
        wrong: the number of wrong answers.
        answers: the number of answers.
        risk: the probability that the true share exceeds the bound.
    """
    return share_bounds(wrong / answers, answers, risk)[1] if answers else 1.0
