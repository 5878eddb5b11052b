"""The results of the tests of `--evaluate` as plain values; this module does not import torch."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.entries import Metric
from trainables.robustness.budgets import ATTACKED, ATTACKS, CLEAN, CORRUPTED
from trainables.values import Evaluation, Json

ERROR_RATE = 0.05
"""The probability of reporting hidden gradients if both attacks are equally strong."""


def summarise_tests(evaluation: str, results: Mapping[str, Evaluation], metric: Metric) -> Json:
    """Summarise the results of all tests of an evaluation.

    Args:
        evaluation: `corruptions` or `adversarial`.
        results: the results of `measure_robustness`, by test.
        metric: the accuracy, for its interval.

    Returns:
        The number of `images`, the accuracy without a change (`clean`), and a `table` (see
        `corruption_summary` and `attack_summary`); or the `reason` why there is no result.
    """
    for result in results.values():
        if "reason" in result:
            return {"reason": result["reason"]}
    (clean,) = results[CLEAN]["rows"]
    tested = {name: result for name, result in results.items() if name != CLEAN}
    facts = {"images": len(clean), "clean": float(np.mean(clean))}
    further = {CORRUPTED: corruption_summary, ATTACKED: attack_summary}[evaluation]
    return {**facts, **further(tested, metric)}


def corruption_summary(results: Mapping[str, Evaluation], metric: Metric) -> Json:
    """Summarise the accuracy on corrupted images.

    The mean accuracy over all corruptions and severities is a mean over the images, of the share of
    its corrupted copies that are classified correctly. Its standard error is therefore computed
    over the images: the copies of an image are not independent.

    Returns:
        `accuracy`, `error`, and the ends of the 95 % interval, `low` and `high` (None for few
        images); and in `table` the accuracies of the five severities, by corruption.
    """
    rights = np.array([result["rows"] for result in results.values()], float)
    of_images = rights.mean(axis=(0, 1))
    count = len(of_images)
    error = float(of_images.std(ddof=1) / np.sqrt(count)) if count > 1 else 0.0
    value = float(of_images.mean())
    low, high = metric.interval(value, error, count - 1) or (None, None)
    shares = rights.mean(axis=2).tolist()
    return {
        "accuracy": value,
        "error": error,
        "low": low,
        "high": high,
        "table": dict(zip(results, shares, strict=True)),
    }


def attack_summary(results: Mapping[str, Evaluation], metric: Metric) -> Json:
    """Summarise the accuracy under attacks.

    Returns:
        `table` has the budget and the accuracy of each attack. `masked` lists the limits at which
        the attack without gradients succeeds significantly more often than PGD (`ERROR_RATE`):
        there the network hides its gradients, and its accuracy under PGD is too optimistic.
    """
    table = [
        {
            "method": ATTACKS[name].method,
            "epsilon": ATTACKS[name].epsilon,
            "steps": ATTACKS[name].steps,
            "restarts": ATTACKS[name].restarts,
            "accuracy": float(np.mean(result["rows"])),
        }
        for name, result in results.items()
    ]
    rights = {
        (ATTACKS[name].method, ATTACKS[name].epsilon): np.array(result["rows"][0], bool)
        for name, result in results.items()
    }
    limits = dict.fromkeys(limit for _, limit in rights)
    masked = [limit for limit in limits if is_weaker(rights["pgd", limit], rights["square", limit])]
    return {"table": table, "masked": masked}


def is_weaker(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> bool:
    """Check whether the first attack leaves significantly more images right than the second.

    It is McNemar's exact one-sided test (1947) on the images for which the attacks differ.
    """
    more, fewer = int((first & ~second).sum()), int((second & ~first).sum())
    differing = more + fewer
    chance = sum(math.comb(differing, count) for count in range(more, differing + 1))
    return differing > 0 and chance / 2**differing < ERROR_RATE
