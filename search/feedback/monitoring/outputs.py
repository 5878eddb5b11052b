"""Test whether the model is as sure of its answers as before."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from search.feedback.monitoring.detector import Detector, Values, round_probabilities

OUTPUTS = "outputs"
CHANGED_SHARE = 0.25
"""The test should detect that this share of the new images is answered with less confidence than
any of the reference's images.
"""
SIMULATIONS, CELLS, SEED = 300, 100, 20
"""Settings of the simulation that computes the power: the number of simulated samples, the number
of groups (cells) of confidences, and the random seed.
"""


@dataclass(frozen=True)
class OutputsDetector(Detector):
    """Compare the model's confidence on new images with that on the reference.

    This is the two-sample Kolmogorov-Smirnov test of the probability of the predicted class. Its
    statistic is the largest distance between the two cumulative distributions. A network often
    answers unfamiliar images with less confidence, or with more, so the test needs neither images
    nor labels. `ClassMixDetector` tests the classes.

    Ties, which are frequent if a model is certain of nearly all images, make false alarms rarer.

    Args:
        reference: probabilities on the reference's images, (images, classes).
        new_values: probabilities on the new images, (images, classes).

    References:
        S. Rabanser, S. Günnemann, Z. Lipton (2019): Failing Loudly: An Empirical Study of Methods
        for Detecting Dataset Shift. NeurIPS.
        J. Hodges (1958): The significance probability of the Smirnov two-sample test. Ark. Mat. 3.

    >>> generator = np.random.default_rng(0)
    >>> sure, unsure = (np.stack([p, 1 - p], axis=1) for p in generator.uniform(0.8, 1, (2, 200)))
    >>> OutputsDetector(sure, unsure).p_value() > 0.05
    True
    >>> OutputsDetector(sure, 0.8 * unsure + 0.1).p_value() < 0.001
    True
    """

    name: ClassVar[str] = OUTPUTS

    @property
    def size(self) -> str:
        """The change that the test should detect, in words."""
        return "a quarter of the images answered with less confidence than any before"

    def p_value(self) -> float:
        """p-value: probability of a distance at least this large if nothing has changed."""
        from scipy.stats import kstwo

        before, now = (
            np.sort(round_probabilities(confidences.max(axis=1)))
            for confidences in (self.reference, self.new_values)
        )
        values = np.concatenate([before, now])
        shares = (
            np.searchsorted(confidences, values, side="right") / len(confidences)
            for confidences in (before, now)
        )
        distance = float(np.abs(np.subtract(*shares)).max())
        return float(kstwo.sf(distance - 1e-9, _effective_images(len(now), len(before))))

    def power(self, images: int, reference_images: int, rate: float) -> float:
        """Probability that a change of `size` is detected at this false-alarm rate.

        The test is simulated: both samples are drawn from the reference's confidences, but a
        quarter of the new ones lie below all of these.
        """
        _, counts = np.unique(round_probabilities(self.reference.max(axis=1)), return_counts=True)
        # Group the confidences into at most CELLS cells, so that the simulation is fast. Equal
        # confidences stay in one cell. Grouping changes the power by about a percentage point.
        cells = (np.cumsum(counts) - counts) * CELLS // counts.sum()
        weights = np.bincount(cells, counts) / counts.sum()
        return _power(images, reference_images, rate, tuple(weights[weights > 0].tolist()))


@lru_cache(maxsize=10_000)
def _power(images: int, reference_images: int, rate: float, weights: tuple[float, ...]) -> float:
    """Simulate the power of the test. `weights` are the shares of the reference in the cells."""
    from scipy.stats import kstwo

    effective = _effective_images(images, reference_images)
    if effective < 1:
        return 0.0
    before = _simulate(reference_images, (0.0, *weights), SEED)
    changed = (CHANGED_SHARE, *((1 - CHANGED_SHARE) * share for share in weights))
    now = _simulate(images, changed, SEED + 1)
    distances = np.abs(now - before).max(axis=1)
    return float(np.mean(distances >= kstwo.isf(rate, effective) - 1e-9))


@lru_cache(maxsize=4)
def _simulate(images: int, shares: tuple[float, ...], seed: int) -> Values:
    """Draw samples of this many images; return their cumulative shares, (SIMULATIONS, cells)."""
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(images, np.array(shares) / sum(shares), SIMULATIONS)
    cumulative: Values = counts.cumsum(axis=1) / images
    return cumulative


def _effective_images(images: int, reference_images: int) -> int:
    """Effective sample size of the two-sample test: n m / (n + m), rounded down.

    With this size, the exact distribution of the one-sample statistic is used as an approximation
    of the two-sample one (Stephens 1970).
    """
    return images * reference_images // (images + reference_images)
