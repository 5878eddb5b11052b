"""Tests of whether images are as those of the validation part were.

Each gives the probability of so large a difference where nothing has changed, so that whoever acts
when it is below a rate is wrong at most at that rate. Images are taken to be independent.
"""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating]
PERMUTATIONS = 499
SHRINKAGE = 0.05
"""Added to the variance in each direction, in units of the features' own variances."""
LEAST_DEVIATION = 1e-3
"""Features that were the same in all validation images count as having this deviation."""
EXACT = 1000
"""Above so many answers the asymptotic distribution of Kolmogorov and Smirnov is used."""
MOST = 1000
"""The images of each side that are compared by their features."""
DECIMALS = 4
"""Of probabilities that are compared."""


def comparable(probabilities: Values) -> NDArray[np.float64]:
    """Return probabilities as coarse as those then and now can be compared.

    Records have fewer digits than a reference, and another runtime gives others in the last ones:
    where a model is nearly certain, 1 and 0.9999998 would be two values.
    """
    rounded: NDArray[np.float64] = probabilities.astype(np.float64).round(DECIMALS)
    return rounded


def outputs_differ(reference: Values, seen: Values) -> float:
    """Return the probability of so large a difference between what a model said then and now.

    It is black-box shift detection (Lipton et al. 2018; Rabanser et al. 2019): the test of
    Kolmogorov and Smirnov for each class's probability, the smallest of them times the number of
    classes (Bonferroni).

    Args:
        reference: probabilities, (images, classes).
        seen: those of the answers, (images, classes).
    """
    from scipy.stats import ks_2samp

    method = "auto" if len(seen) <= EXACT else "asymp"
    found = [
        ks_2samp(before, now, method=method).pvalue
        for before, now in zip(comparable(reference).T, comparable(seen).T, strict=True)
    ]
    return float(min(1.0, min(found) * len(found)))


def features_differ(reference: Values, seen: Values, generator: np.random.Generator) -> float:
    """Return the probability of so large a difference between features then and now.

    It is the permutation test of the maximum mean discrepancy (Gretton et al. 2012) of whitened
    features with a Gaussian kernel.

    Args:
        reference: features, (images, features); the first `MOST` count.
        seen: those of the kept images; the first `MOST` count.
        generator: draws the permutations.
    """
    kernel, before = _kernel(reference, seen)
    weights = shuffled_weights(before, len(kernel) - before, generator)
    return _p(((kernel @ weights) * weights).sum(axis=0))


def unlike(reference: Values, seen: Values) -> Values:
    """Return how much more each new image is like the others than like the reference.

    It is the witness function of the maximum mean discrepancy, of the first `MOST` of each.
    """
    kernel, before = _kernel(reference, seen)
    rows: Values = kernel[before:, before:].mean(axis=1) - kernel[before:, :before].mean(axis=1)
    return rows


def _kernel(reference: Values, seen: Values) -> tuple[NDArray[np.float32], int]:
    """Return the kernel of all pairs of images, and how many of them are of the reference.

    It is as wide as the median distance; an image's own value is left out. What scales it is of all
    images together, as if nobody knew which are new: else the test would not keep its rate.
    """
    values = whitened(np.concatenate([reference[:MOST], seen[:MOST]]))
    squares = (values**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None] - 2 * values @ values.T, 0)
    width = float(np.median(distances[::4, ::4])) or 1.0
    kernel: NDArray[np.float32] = np.exp(-distances / width)
    np.fill_diagonal(kernel, 0)
    return kernel, min(len(reference), MOST)


def whitened(features: Values) -> NDArray[np.float32]:
    """Return features turned and scaled so that they are uncorrelated, with variance 1.

    So a change shows that is small beside what features vary by, but not beside what they vary by
    together: of two images that are equally rich in contrast, one is blurred.
    """
    centred = features - features.mean(axis=0)
    scaled = centred / np.maximum(features.std(axis=0), LEAST_DEVIATION)
    variances, directions = np.linalg.eigh(scaled.T @ scaled / len(scaled))
    turned = scaled @ (directions / np.sqrt(np.maximum(variances, 0) + SHRINKAGE))
    found: NDArray[np.float32] = turned.astype(np.float32)
    return found


def shuffled_weights(before: int, now: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return what each image counts in the difference of two means, (images, 1 + permutations).

    The first column is as the images are, in the others they are shuffled.
    """
    weights = np.full((before + now, 1 + PERMUTATIONS), 1 / now, dtype=np.float32)
    weights[:before, 0] = -1 / before
    for column in range(1, 1 + PERMUTATIONS):
        weights[generator.permutation(before + now)[:before], column] = -1 / before
    return weights


def _p(found: Values) -> float:
    """Return the share of shuffles whose value is at least the first one's."""
    return float(np.mean(found >= found[0] - 1e-6 * np.abs(found[0])))


def mix_differs(reference: Values, seen: Values, generator: np.random.Generator) -> float:
    """Return the probability of so large a difference between the classes named then and now.

    It is the permutation test of the largest standardized difference among the classes' mean
    probabilities.

    Args:
        reference: probabilities, (images, classes).
        seen: those of the answers, (images, classes).
        generator: draws the permutations.
    """
    values = comparable(np.concatenate([reference, seen])).astype(np.float32)
    deviations = np.maximum(values.std(axis=0), 1e-6)
    differences = (values / deviations).T @ shuffled_weights(len(reference), len(seen), generator)
    return _p(np.abs(differences).max(axis=0))
