"""Sets of classes that contain the true class with a stated probability (conformal prediction).

A class belongs to an image's set if its probability is at least a limit, which is a quantile of the
probabilities of the true classes of held-out images (split conformal prediction; these sets are the
smallest on average: Sadinle, Lei and Wasserman 2019, "Least Ambiguous Set-Valued Classifiers with
Bounded Error Levels"). A set may be empty: then no class is as probable as the classes of images
usually are.

Adaptive sets (APS and RAPS) were larger, on CIFAR-10 and on MNIST (docs/benchmarks.md).
"""

import math

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.arrays import Labels
from trainables.predictors.base import Probabilities


def set_limits(
    chances: Probabilities, labels: Labels, coverage: float, *, by_class: bool
) -> list[float | None]:
    """Compute the least probability at which each class belongs to a set.

    Args:
        chances: class probabilities of held-out images, (images, classes).
        labels: true class numbers, (images,).
        coverage: the share of images whose sets should contain their class, between 0 and 1.
        by_class: True if the coverage should hold for the images of each class (Vovk 2012,
            "Conditional validity of inductive conformal predictors").

    Returns:
        The limit of each class; None for a class with too few images, which is in every set.
    """
    classes = chances.shape[1]
    own = chances[np.arange(len(labels)), labels]
    if not by_class:
        return [least_probability(own, coverage)] * classes
    return [least_probability(own[labels == number], coverage) for number in range(classes)]


def least_probability(own: NDArray[np.float64], coverage: float) -> float | None:
    """Return the largest limit that the probability of a new image's class is not below.

    This holds with a probability of at least `coverage`. See `conformal_quantile`.
    """
    quantile = conformal_quantile(-own, coverage)
    return None if quantile is None else -quantile


def conformal_quantile(scores: NDArray[np.float64], coverage: float) -> float | None:
    """Return the smallest limit that a new score meets with the probability `coverage`.

    It is the score of rank ceil((n + 1) * coverage) among n (Vovk, Gammerman and Shafer 2005,
    "Algorithmic Learning in a Random World"); None if there are fewer scores.
    """
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    if rank > len(scores):
        return None
    return float(np.sort(scores)[max(0, rank - 1)])
