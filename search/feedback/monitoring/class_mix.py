"""The share of each class among new images, estimated from what a model said of them.

It is known how often the model names each class for images of each (its confusion on the validation
part). The shares under which the answers are most likely are estimated from that (Lipton et al.
2018 solve the same equations; Saerens et al. 2002 the likelihood), provided that images of a class
look as they did. Where new images are held to others without labels, the shares among those are
estimated by the same confusion: an error of it is in both, and shows as no difference.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from search.statistics import LEVEL

Values = NDArray[np.float64]
STEPS, REPEATS, WORK = 100, 200, 200_000
"""Steps to the most likely shares, samples of the bootstrap, and the numbers in all their tables of
confusions: with many classes there are fewer samples.
"""


@dataclass(frozen=True)
class ClassShare:
    """A class among the images that new ones are held to, and among the new ones."""

    name: str
    before: float
    now: float
    low: float
    high: float
    """The ends of the 95 % interval of `now`."""
    changed: bool
    """True if the shares differ by more than noise, at an error rate of 5 % for all classes."""


def class_shares(
    classes: tuple[str, ...],
    targets: NDArray[np.int64],
    reference: Values,
    seen: Values,
    generator: np.random.Generator,
    *,
    earlier: Values | None = None,
) -> list[ClassShare]:
    """Estimate the share of each class among the new images.

    Args:
        classes: their names.
        targets: the class of each validation image, (images,).
        reference: the model's probabilities of these, (images, classes).
        seen: those of the new images, (images, classes).
        generator: draws the samples of the bootstrap.
        earlier: those of the images that the new ones are held to, if not the validation images.
    """
    count = len(classes)
    pairs = np.bincount(targets * count + reference.argmax(axis=1), minlength=count**2)
    named = np.bincount(seen.argmax(axis=1), minlength=count)
    now = _shares(pairs[None], named[None])[0]
    repeats = min(REPEATS, 20 + WORK // count**2)
    drawn = generator.multinomial(pairs.sum(), pairs / pairs.sum(), repeats)
    again = generator.multinomial(named.sum(), named / named.sum(), repeats)
    estimates = _shares(drawn, again)
    if earlier is None:
        before, befores = _class_totals(pairs[None])[0], _class_totals(drawn)
    else:
        then = np.bincount(earlier.argmax(axis=1), minlength=count)
        before = _shares(pairs[None], then[None])[0]
        befores = _shares(drawn, generator.multinomial(then.sum(), then / then.sum(), repeats))
    error, difference = estimates.std(axis=0), (estimates - befores).std(axis=0)
    width = _width(1) * error
    changed = np.abs(now - before) > _width(count) * np.maximum(difference, 1 / len(seen))
    return [
        ClassShare(
            name,
            float(before[number]),
            float(now[number]),
            float(max(now[number] - width[number], 0)),
            float(min(now[number] + width[number], 1)),
            bool(changed[number]),
        )
        for number, name in enumerate(classes)
    ]


def _width(comparisons: int) -> float:
    """Return the half width of an interval in standard errors."""
    return NormalDist().inv_cdf(1 - (1 - LEVEL) / 2 / comparisons)


def _class_totals(pairs: NDArray[np.int64]) -> Values:
    """Return the share of each class among validation images, (samples, classes)."""
    count = math.isqrt(pairs.shape[1])
    totals: Values = (
        pairs.reshape(len(pairs), count, count).sum(axis=2) / pairs.sum(axis=1)[:, None]
    )
    return totals


def _shares(pairs: NDArray[np.int64], named: NDArray[np.int64]) -> Values:
    """Return the most likely shares of the classes, by expectation and maximization.

    Args:
        pairs: of each sample, the number of validation images of each class and named class,
            (samples, classes * classes).
        named: of each, the number of new images named as each class, (samples, classes).
    """
    count = named.shape[1]
    # An image more of each class, so that what was not met there is unlikely, and not impossible.
    confusion = pairs.reshape(-1, count, count) + 0.5 / count + np.eye(count) * 0.5
    confusion = confusion / confusion.sum(axis=2, keepdims=True)
    observed = (named / named.sum(axis=1, keepdims=True))[:, None]
    shares: Values = np.full((len(named), 1, count), 1 / count)
    for _ in range(STEPS):
        shares = shares * ((observed / (shares @ confusion)) @ confusion.transpose(0, 2, 1))
    return shares[:, 0]


def needed(before: float, recall: float, images: int, rate: float) -> float:
    """Return the number of new images by which a class twice as frequent is seen with 80 %.

    Args:
        before: its share among the validation images.
        recall: the share of its images that the model names right.
        images: the number of validation images.
        rate: the false-alarm rate for this class.
    """
    rise = before * max(recall, 1e-6)
    variance = before * (1 - before)
    errors = (rise / (NormalDist().inv_cdf(1 - rate / 2) + NormalDist().inv_cdf(0.8))) ** 2
    left = errors - variance / images
    return variance / left if left > 0 else math.inf
