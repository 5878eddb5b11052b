"""The forecast for more labels: the learning curve of a classifier on features, extrapolated.

The classifier is fitted to random subsets of the training set, and measured on the validation set.
Its error is assumed to fall with the number of images n as c + a n^-b (Hestness et al. 2017, "Deep
Learning Scaling is Predictable, Empirically", arXiv 1712.00409). All values of b and c that fit are
averaged, weighted by their likelihood, so that a curve that does not determine them gives a wide
interval. How often the truth lies in it is measured by `tests.bench.more_labels`.
"""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.baselines.classifiers import LinearClassifier
from trainables.baselines.features import Values
from trainables.datasets.arrays import Labels
from trainables.values import Json

MOST = 4000
"""The maximum number of training images; with more, the fits take too long."""
LONGEST_S = 10.0
"""Seconds after which the fits are given up: no forecast is worth more of a search's time."""
SHARES = (1 / 8, 1 / 4, 1 / 2, 1)
FITS = (8, 4, 2, 1)
"""The sizes of the subsets, as shares of all images, and the number of fits of each size."""
LEAST_PER_CLASS = 2
"""The mean number of images of a class in the smallest subset must be at least this."""
PENALTIES = (3.0, 10.0, 1.0, 30.0, 0.3)
"""The penalties to choose from: `C` of the logistic regression, times the number of images.

The best one on the validation set with all images, the first one of several, is used for all sizes.
"""
TIMES = (1, 1.5, 2, 4)
"""The multiples of the number of training images for which the accuracy is forecast."""
EXPONENTS = np.linspace(0.05, 1.2, 24)
FLOORS = np.linspace(0, 1, 25)[:-1]
"""The values of b, and those of c as shares of the smallest error."""
LEAST_VARIANCE = 1e-5
"""The least variance of an error by the chance of a subset."""
SAMPLES = 4000
LEVEL = 0.9
"""The probability of the interval."""

Errors = NDArray[np.float64]


@dataclass(frozen=True)
class LearningCurve:
    """The errors on the validation set of classifiers that were fitted to subsets."""

    sizes: tuple[int, ...]
    """Numbers of images, increasing."""
    errors: tuple[tuple[float, ...], ...]
    """The error of each fit, by size."""
    validated: int
    """The number of images by which the errors were measured."""

    @property
    def means(self) -> Errors:
        """The mean error by size."""
        return np.array([np.mean(each) for each in self.errors])

    def forecast(self, images: float) -> tuple[float, float, float]:
        """Return the low end, the median and the high end of the accuracy after so many images.

        The interval has the probability `LEVEL`. It contains the chance of the subsets, of the
        validation images, and of what the curve leaves open.
        """
        generator = np.random.default_rng(0)
        means, last = self.means, self.sizes[-1]
        ratios = np.array(self.sizes) / last
        floors, exponents = np.meshgrid(FLOORS * means[-1], EXPONENTS)
        floors, exponents = floors.ravel(), exponents.ravel()
        powers = ratios[None, :] ** -exponents[:, None]
        weights = 1 / self._variances()
        gaps = means[None, :] - floors[:, None]
        precisions = (weights * powers**2).sum(axis=1)
        factors = (weights * powers * gaps).sum(axis=1) / precisions
        factors = np.maximum(factors, 0)  # more images are not worse
        misfits = (weights * (gaps - factors[:, None] * powers) ** 2).sum(axis=1)
        likelihoods = -misfits / 2 - np.log(precisions) / 2
        shares = np.exp(likelihoods - likelihoods.max())
        drawn = generator.choice(len(shares), SAMPLES, p=shares / shares.sum())
        factor = factors[drawn] + generator.standard_normal(SAMPLES) / np.sqrt(precisions[drawn])
        errors = floors[drawn] + np.maximum(factor, 0) * (images / last) ** -exponents[drawn]
        # The half error more keeps the deviation above 0 if all images were classified correctly.
        error = (float(means[-1]) * self.validated + 0.5) / (self.validated + 1)
        deviation = float(np.sqrt(error * (1 - error) / self.validated))
        errors += generator.standard_normal(SAMPLES) * deviation
        low, likely, high = np.quantile(
            1 - np.clip(errors, 0, 1), [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2]
        )
        return float(low), float(likely), float(high)

    def _variances(self) -> Errors:
        """Return the variance of the mean error of each size, by the chance of its subsets.

        That of a fit is inversely proportional to the size. The fits of one size share the
        validation images, whose chance is added in `forecast`.
        """
        each, last = list(zip(self.sizes, self.errors, strict=True)), self.sizes[-1]
        at_last = [np.var(own, ddof=1) * size / last for size, own in each if len(own) > 1]
        variance = max(float(np.mean(at_last)), LEAST_VARIANCE)
        return np.array([variance * last / size / len(own) for size, own in each])


def learning_curve(
    train: Values,
    labels: Labels,
    val: Values,
    val_labels: Labels,
    *,
    seed: int,
) -> LearningCurve | None:
    """Fit the classifier to random subsets.

    The result is None if there are too few images, or too many to be fitted in time.

    Args:
        train: the features of the training images, (images, length).
        labels: their class numbers.
        val: the features of the validation images.
        val_labels: their class numbers.
        seed: determines the subsets.
    """
    generator, start = np.random.default_rng(seed), time.monotonic()
    sizes = [round(share * len(train)) for share in SHARES]
    if sizes[0] < LEAST_PER_CLASS * len(np.unique(labels)) or len(train) > MOST:
        return None

    def error(subset: NDArray[np.int64], penalty: float) -> float:
        if time.monotonic() - start > LONGEST_S:
            raise TimeoutError
        own = labels[subset]
        if (own == own[0]).all():  # a class is so rare that the subset has none of it
            return float(np.mean(own[0] != val_labels))
        fit = LinearClassifier(C=penalty / len(subset)).fit(train[subset], own)
        return float(np.mean(fit.predict(val) != val_labels))

    rows = np.arange(len(train))
    try:
        whole = {penalty: error(rows, penalty) for penalty in PENALTIES}
        penalty = min(whole, key=whole.__getitem__)
        errors = [
            tuple(error(generator.permutation(rows)[:size], penalty) for _ in range(fits))
            for size, fits in zip(sizes[:-1], FITS[:-1], strict=True)
        ]
    except TimeoutError:
        return None
    return LearningCurve(tuple(sizes), (*errors, (whole[penalty],)), len(val))


def more_labels(curve: LearningCurve, images: int) -> Json:
    """Return a learning curve and its forecasts as JSON-compatible values.

    A forecast has the accuracy (`low`, `likely` and `high`) with `times` as many training images as
    the present number, `images`.
    """
    forecasts = [(times, *curve.forecast(times * images)) for times in TIMES]
    return {
        "images": images,
        "sizes": list(curve.sizes),
        "accuracies": (1 - curve.means).tolist(),
        "validated": curve.validated,
        "forecasts": [
            dict(zip(("times", "low", "likely", "high"), each, strict=True)) for each in forecasts
        ],
    }
