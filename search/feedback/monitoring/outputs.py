"""Is the model as sure of its answers as before?"""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from search.feedback.monitoring.detector import Detector, Values, round_probabilities

OUTPUTS = "outputs"
CHANGED_SHARE = 0.25
"""The share of the new images that is answered differently in the stated change."""
SIMULATIONS, CELLS, SEED = 300, 100, 20
"""For the power: the samples that are drawn, the groups of confidences, and the seed."""


@dataclass(frozen=True)
class OutputsDetector(Detector):
    """Compare the model's confidence on new images with that on the reference.

    The test of Kolmogorov and Smirnov on the probability of the predicted class: the largest
    distance between both distributions. This is black-box shift detection with the trained network.
    Images that are unfamiliar to the network are often answered with less confidence, or with more,
    so that the test needs neither images nor labels. `ClassMixDetector` tests the classes.

    Equal confidences, as of a model that is certain of nearly all images, make false alarms rarer.

    Args:
        reference: probabilities on the reference's images, (images, classes).
        new_values: those on the new images, (images, classes).

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
        """The change that ought to be detected, in words."""
        return "a quarter of the images answered with less confidence than any before"

    def p_value(self) -> float:
        """Probability of a distance as large, or larger, if nothing has changed."""
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

        The test is simulated: both samples are drawn from the reference's confidences, a quarter of
        the new ones below all of them.
        """
        _, counts = np.unique(round_probabilities(self.reference.max(axis=1)), return_counts=True)
        # Equal confidences stay in one cell. Grouping the others changes the power by a point.
        cells = (np.cumsum(counts) - counts) * CELLS // counts.sum()
        weights = np.bincount(cells, counts) / counts.sum()
        return _power(images, reference_images, rate, tuple(weights[weights > 0].tolist()))


@lru_cache(maxsize=10_000)
def _power(images: int, reference_images: int, rate: float, weights: tuple[float, ...]) -> float:
    """Simulate how often the distance is large enough, from the shares of the confidences."""
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
    """Draw samples; return the cumulative share of each confidence, (simulations, confidences)."""
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(images, np.array(shares) / sum(shares), SIMULATIONS)
    cumulative: Values = counts.cumsum(axis=1) / images
    return cumulative


def _effective_images(images: int, reference_images: int) -> int:
    """Size of the single sample whose distance from a known distribution varies as much.

    With it, rounded down, the exact distribution for one sample applies to two (Stephens 1970).
    """
    return images * reference_images // (images + reference_images)
