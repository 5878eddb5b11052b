"""The gain to be expected from further trials, by the theory of records.

Of `m` trials and one more, each is as likely to be the best: a new trial beats the best so far with
chance 1 / (m + 1). The size of the gain is told by the best tenth: their mean excess over the next
is the scale of an exponential tail, an upper estimate where values are bounded, as accuracies are.
Of `n` new trials a binomial number lie beyond the best, and the largest of j such excesses is the
scale times (1 + 1/2 + ... + 1/j) on average, so that

    gain = scale * sum over j = 1..n of (1 - (1 - 1 / (m + 1)) ** j) / j

Only the later half of the trials counts here, for an algorithm that learns proposes others late
than early. As it may still be getting better, the rest is expected to gain as much at least as the
later half did over the first, for each time that the number of trials doubles. A region of good
configurations that no trial has met is not foreseen.

Measured on searches played 150 times each, on nine kinds of made-up values and, with ASHA's stops
and without, on the recorded curves of two networks: with 0.1 points asked for, searches in random
order lost 0.00 to 0.06 points on average by stopping, at 57 % to 100 % of what was planned; with
0.3 points 0.00 to 0.17, at 30 % to 98 %. TPE, 60 times on a noisy bowl, lost 0.13 and 0.27, at 77 %
and 56 %.
"""

import math
from collections.abc import Sequence

from search.journal.result import FAILED, SearchResult, furthest_of_each_training

MIN_TRIALS = 20
"""The number of trials that must have ended before a gain is estimated."""
TOP_SHARE, MIN_TOP = 10, 5
"""The tail is the best one in `TOP_SHARE` trials, and at least `MIN_TOP` of them."""


def expected_gain(values: Sequence[float], ahead: int) -> float:
    """Return the gain over the best of all that `ahead` new trials are expected to make.

    It is in the unit of the values. These are the values of the trials so far, in order, one a
    training; a failed one has minus infinity. The gain is infinite while there are too few.

    The new trials are taken for trainings of their own, of which more is to be expected than of new
    lengths of known ones.
    """
    count = len(values)
    if count < MIN_TRIALS or max(values[: count // 2]) == -math.inf:
        return math.inf
    gained = max(values) - max(values[: count // 2])
    return max(
        by_records(values[-max(MIN_TRIALS, count // 2) :], ahead),
        gained * math.log2((count + ahead) / count),
    )


def by_records(values: Sequence[float], ahead: int) -> float:
    """Return the same gain by the theory of records, which takes all trials to be alike."""
    ordered = sorted(values, reverse=True)
    top = max(MIN_TOP, len(ordered) // TOP_SHARE)
    if ordered[top] == -math.inf:
        return math.inf
    scale = sum(ordered[:top]) / top - ordered[top]
    chance, none, total = 1 / (len(ordered) + 1), 1.0, 0.0
    for number in range(1, ahead + 1):
        none *= 1 - chance
        total += (1 - none) / number
    return scale * total


def values_of(result: SearchResult) -> list[float]:
    """Return the values of the trials that do not run now, one a training.

    They are in the order of their suggestion. Trials that differ in length alone count once, since
    they share their luck.
    """
    ended = [
        trial
        for trial in result.trials.values()
        if trial.outcome not in ("pending", "running") and (trial.epochs or trial.outcome in FAILED)
    ]
    return [
        -math.inf if trial.outcome in FAILED else trial.score
        for trial in furthest_of_each_training(ended)
    ]
