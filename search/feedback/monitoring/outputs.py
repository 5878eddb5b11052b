"""Is the model as sure of its answers as it was?"""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from search.feedback.monitoring.detector import Detector, Values, rounded

OUTPUTS = "outputs"
CHANGED = 0.25
"""The share of the new images that is answered otherwise in the stated change."""
SIMULATIONS, CELLS, SEED = 300, 100, 20
"""Of the power: samples that are drawn, and the groups of confidences that are told apart."""


@dataclass(frozen=True)
class OutputsDetector(Detector):
    """Compare the model's confidence on new images with that on the reference.

    The test of Kolmogorov and Smirnov of the probability of the class that is named, the largest
    distance between both distributions: black-box shift detection with the network as it is. Images
    that the network does not know are often answered with less confidence, or with more, so that
    this needs neither the images nor labels. Which classes are named is `ClassMixDetector`'s.

    Equal confidences, as of a model that is certain of nearly all images, make false alarms rarer.

    Args:
        reference: probabilities on the reference's images, (images, classes).
        seen: those on the new images, (images, classes).

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
        """Probability of so large a distance, or a larger one, if nothing has changed."""
        from scipy.stats import kstwo

        before, now = (np.sort(rounded(some.max(axis=1))) for some in (self.reference, self.seen))
        values = np.concatenate([before, now])
        shares = (np.searchsorted(some, values, side="right") / len(some) for some in (before, now))
        distance = float(np.abs(np.subtract(*shares)).max())
        return float(kstwo.sf(distance - 1e-9, _worth(len(now), len(before))))

    def power(self, images: int, reference_images: int, rate: float) -> float:
        """Probability that a change of `size` is detected at this false-alarm rate.

        The test is simulated: both samples are drawn from the reference's confidences, a quarter of
        the new ones below all of them.
        """
        _, counts = np.unique(rounded(self.reference.max(axis=1)), return_counts=True)
        # Equal confidences stay together; others are grouped, which changes power by a point.
        cells = (np.cumsum(counts) - counts) * CELLS // counts.sum()
        weights = np.bincount(cells, counts) / counts.sum()
        return _power(images, reference_images, rate, tuple(weights[weights > 0].tolist()))


@lru_cache(maxsize=10_000)
def _power(images: int, reference_images: int, rate: float, weights: tuple[float, ...]) -> float:
    """Simulate how often the distance is large enough, by the shares of the confidences."""
    from scipy.stats import kstwo

    worth = _worth(images, reference_images)
    if worth < 1:
        return 0.0
    before = _simulate(reference_images, (0.0, *weights), SEED)
    changed = (CHANGED, *((1 - CHANGED) * share for share in weights))
    now = _simulate(images, changed, SEED + 1)
    distances = np.abs(now - before).max(axis=1)
    return float(np.mean(distances >= kstwo.isf(rate, worth) - 1e-9))


@lru_cache(maxsize=4)
def _simulate(images: int, shares: tuple[float, ...], seed: int) -> Values:
    """Draw samples; return the cumulative share of each confidence, (simulations, confidences)."""
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(images, np.array(shares) / sum(shares), SIMULATIONS)
    cumulative: Values = counts.cumsum(axis=1) / images
    return cumulative


def _worth(images: int, reference_images: int) -> int:
    """Size of the one sample whose distance from a known distribution varies as much.

    With it, rounded down, the exact distribution for one sample serves for two (Stephens 1970).
    """
    return images * reference_images // (images + reference_images)
