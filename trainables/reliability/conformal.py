"""Sets of classes that contain the true class with a stated probability (conformal prediction).

A class belongs to an image's set if its score is at most a limit, which is a quantile of the scores
of the true classes of held-out images (split conformal prediction). The score is that of adaptive
prediction sets (Romano, Sesia and Candès 2020, "Classification with Valid and Adaptive Coverage"):
the sum of the probabilities of all more probable classes, and a random share of the class's own. A
penalty on classes of a low rank makes the sets smaller where there are many classes (Angelopoulos
et al. 2021, "Uncertainty Sets for Image Classifiers using Conformal Prediction", section 2.2).

The random share makes the coverage exact. It is derived from the pixels of an image, so that an
image always has the same set; without it, the sets of accurate models would be too large.
"""

import math

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.arrays import Labels
from trainables.predictors.classification import Probabilities, class_scores


def set_limits(
    chances: Probabilities,
    shares: NDArray[np.float64],
    labels: Labels,
    coverage: float,
    *,
    by_class: bool,
) -> list[float | None]:
    """Compute the limit of each class's score.

    Args:
        chances: class probabilities of held-out images, (images, classes).
        shares: the random share of each image, (images,), from 0 to 1.
        labels: true class numbers, (images,).
        coverage: the share of images whose sets should contain their class, between 0 and 1.
        by_class: True if the coverage should hold for the images of each class (Vovk 2012,
            "Conditional validity of inductive conformal predictors").

    Returns:
        The limit of each class; None for a class with too few images, which is in every set.
    """
    classes = chances.shape[1]
    own = class_scores(chances, shares)[np.arange(len(labels)), labels]
    if not by_class:
        return [conformal_quantile(own, coverage)] * classes
    return [conformal_quantile(own[labels == number], coverage) for number in range(classes)]


def conformal_quantile(scores: NDArray[np.float64], coverage: float) -> float | None:
    """Return the smallest limit that a new score meets with the probability `coverage`.

    It is the score of rank ceil((n + 1) * coverage) among n; None if there are fewer scores.
    """
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    if rank > len(scores):
        return None
    return float(np.sort(scores)[max(0, rank - 1)])
