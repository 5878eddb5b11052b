"""The tests of `--evaluate`: corruptions and attacks, their parameters, and a summary of results.

The parameters of the fifteen corruptions are those of Hendrycks and Dietterich, "Benchmarking
Neural Network Robustness to Common Corruptions and Perturbations" (2019): of ImageNet-C for images
of 224 x 224 pixels (`create_c/make_imagenet_c.py` in the authors' repository), and of CIFAR-10-C
for images of 32 x 32 (`create_c/make_cifar_c.py` there). This module imports neither torch nor
SciPy.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.entries import Metric
from trainables.values import Evaluation, Json

SMALL_SIDE, LARGE_SIDE = 32, 224
"""The side of the images of CIFAR-10-C and of ImageNet-C, in pixels."""
SEVERITIES = (1, 2, 3, 4, 5)
Row = tuple[float, ...]
Levels = tuple[Row, ...]
"""The parameters of each of the `SEVERITIES`."""


@dataclass(frozen=True)
class PublishedParameters:
    """The parameters of a corruption at both published sizes."""

    small: Levels
    """The parameters of CIFAR-10-C."""
    large: Levels
    """The parameters of ImageNet-C."""
    lengths: tuple[int, ...] = ()
    """The positions of the parameters that are lengths in pixels."""
    shrinks: bool = False
    """True if lengths also shrink for images below 32 pixels.

    Other lengths are about a pixel at 32 pixels already, so that less would change nothing.
    """


def _levels(*values: float) -> Levels:
    return tuple((value,) for value in values)


def _of_side(side: float, *shares: Row) -> Levels:
    return tuple(tuple(side * share for share in row) for row in shares)


PUBLISHED = {
    # Standard deviation.
    "gaussian_noise": PublishedParameters(
        _levels(0.04, 0.06, 0.08, 0.09, 0.10), _levels(0.08, 0.12, 0.18, 0.26, 0.38)
    ),
    # Photons of a white pixel.
    "shot_noise": PublishedParameters(_levels(500, 250, 100, 75, 50), _levels(60, 25, 12, 5, 3)),
    # Share of the values that become black or white.
    "impulse_noise": PublishedParameters(
        _levels(0.01, 0.02, 0.03, 0.05, 0.07), _levels(0.03, 0.06, 0.09, 0.17, 0.27)
    ),
    # Radius of the disk, standard deviation of its smoothing.
    "defocus_blur": PublishedParameters(
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        lengths=(0,),
    ),
    # Standard deviation of the blur, largest move of a pixel, number of passes.
    "glass_blur": PublishedParameters(
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        lengths=(0, 1),
    ),
    # Radius and standard deviation of the blur along a line.
    "motion_blur": PublishedParameters(
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        lengths=(0, 1),
    ),
    # Exclusive end of the zoom factors, their step; they begin with 1.
    "zoom_blur": PublishedParameters(
        ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    # Mean and standard deviation of the flakes' brightness, their zoom, the threshold of what is
    # visible, radius and standard deviation of their blur, share of the image that is not whitened.
    "snow": PublishedParameters(
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        lengths=(2, 4, 5),
    ),
    # Weight of the image, weight of the frost.
    "frost": PublishedParameters(
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    ),
    # Weight of the fog, decay of its roughness.
    "fog": PublishedParameters(
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    # Added to the value (HSV).
    "brightness": PublishedParameters(
        _levels(0.05, 0.1, 0.15, 0.2, 0.3), _levels(0.1, 0.2, 0.3, 0.4, 0.5)
    ),
    # Factor of the distance from the mean.
    "contrast": PublishedParameters(
        _levels(0.75, 0.5, 0.4, 0.3, 0.15), _levels(0.4, 0.3, 0.2, 0.1, 0.05)
    ),
    # Amplitude and smoothness of the distortion, largest move of the corners.
    "elastic_transform": PublishedParameters(
        _of_side(
            32,
            (0, 0, 0.08),
            (0.05, 0.2, 0.07),
            (0.08, 0.06, 0.06),
            (0.1, 0.04, 0.05),
            (0.1, 0.03, 0.03),
        ),
        # 244 is the published number, although the images have 224 pixels.
        _of_side(
            244,
            (2, 0.7, 0.1),
            (2, 0.08, 0.2),
            (0.05, 0.01, 0.02),
            (0.07, 0.01, 0.02),
            (0.12, 0.01, 0.02),
        ),
        lengths=(0, 1, 2),
        shrinks=True,
    ),
    # Remaining share of the side.
    "pixelate": PublishedParameters(
        _levels(0.95, 0.9, 0.85, 0.75, 0.65), _levels(0.6, 0.5, 0.4, 0.3, 0.25)
    ),
    # JPEG quality.
    "jpeg_compression": PublishedParameters(
        _levels(80, 65, 58, 50, 40), _levels(25, 18, 15, 10, 7)
    ),
}
"""The fifteen corruptions, in the order of the paper."""


def parameters_of(name: str, severity: int, side: int) -> Row:
    """Return the parameters of a corruption for images whose shorter side has `side` pixels.

    At 32 and at 224 pixels they are the published ones, and in between they are interpolated
    linearly in the side, since most of them are lengths. Above 224 pixels, lengths grow with the
    side; below 32 pixels, they shrink with it only if the corruption `shrinks`. All other
    parameters stay at the nearest published ones.

    Raises:
        KeyError: there is no such corruption.
        ValueError: the severity is not 1, 2, 3, 4 or 5.
    """
    if severity not in SEVERITIES:
        raise ValueError(f"the severity must be 1, 2, 3, 4 or 5 (got {severity})")
    published = PUBLISHED[name]
    share = min(1.0, max(0.0, (side - SMALL_SIDE) / (LARGE_SIDE - SMALL_SIDE)))
    growth = max(1.0, side / LARGE_SIDE)
    if published.shrinks:
        growth *= min(1.0, side / SMALL_SIDE)
    pairs = zip(published.small[severity - 1], published.large[severity - 1], strict=True)
    return tuple(
        ((1 - share) * small + share * large) * (growth if place in published.lengths else 1)
        for place, (small, large) in enumerate(pairs)
    )


MAX_IMAGES, MAX_LARGE_IMAGES = 500, 100
"""The number of validation images of a test: small images (`SMALL_PIXELS`), and larger ones."""
SMALL_PIXELS = 64 * 64
"""The most pixels of a small image."""
CLEAN = "clean"
"""The test on the unchanged images."""
CORRUPTION_ACCURACY = "val/corruption_accuracy"
"""The metric of an epoch that is measured for the objective `corruption_accuracy`."""


@dataclass(frozen=True, kw_only=True)
class AttackBudget:
    """An attack that changes each pixel by at most `epsilon`, where pixels are from 0 to 1."""

    method: str
    """`fgsm`, `pgd` or `square`."""
    epsilon: float
    steps: int = 1
    """The number of steps for each start; for `square` the number of predictions it may use."""
    restarts: int = 1
    """The number of random starts; a start uses all `steps`."""

    @property
    def name(self) -> str:
        """The name of the test, such as `pgd-8`: the method, and `epsilon` in 255ths."""
        return f"{self.method}-{255 * self.epsilon:g}"

    @property
    def step_size(self) -> float:
        """The size of a step: a quarter of `epsilon` for `pgd` (Madry et al. 2018: 2 of 8)."""
        return self.epsilon if self.method == "fgsm" else self.epsilon / 4


ATTACKS = {
    budget.name: budget
    for epsilon in (2 / 255, 8 / 255)
    for budget in (
        AttackBudget(method="fgsm", epsilon=epsilon),
        AttackBudget(method="pgd", epsilon=epsilon, steps=20, restarts=2),
        AttackBudget(method="square", epsilon=epsilon, steps=300),
    )
}
"""The attacks by name."""
CORRUPTED, ATTACKED = "corruptions", "adversarial"
STRESS_TESTS: dict[str, tuple[str, ...]] = {
    CORRUPTED: (CLEAN, *PUBLISHED),
    ATTACKED: (CLEAN, *ATTACKS),
}
"""The tests of each value of `--evaluate`."""
GRADIENT_PASSES = 3
"""The time of a prediction with its gradient, in predictions: backward passes take twice as long.
"""
ATTACKED_SHARE = 0.7
"""The assumed share of the steps that attacks need, as they skip images that are wrong already.

It agrees with the measured time of `mnist_cnn` on 400 images of CIFAR-10; the more robust a network
is, the longer its attacks take.
"""


def predictions_of(evaluation: str) -> float:
    """Estimate the time of an evaluation for one image, in predictions of an image."""
    if evaluation == CORRUPTED:
        return 1.0 + len(PUBLISHED) * len(SEVERITIES)
    steps = sum(
        budget.restarts * budget.steps * (1 if budget.method == "square" else GRADIENT_PASSES)
        for budget in ATTACKS.values()
    )
    return 1.0 + 2 * len(ATTACKS) + ATTACKED_SHARE * steps


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
        {**asdict(ATTACKS[name]), "accuracy": float(np.mean(result["rows"]))}
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
