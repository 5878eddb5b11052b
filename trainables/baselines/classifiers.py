"""The baselines' classifiers, built on scikit-learn.

They map features, float32 (images, length), to class probabilities. Labels are integers, and all
randomness comes from the seed. Hand-made features are not standardised, because all features of a
kind have the same scale already. Standardising would give the features of empty corners the same
weight as all others. On MNIST it costs the SVM 0.2 to 3 percentage points of accuracy (measured
with the features `hog`, `edges` and `all` of 10,000 images, C = 10, gamma = 1).
"""

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.extmath import softmax

from trainables.datasets.arrays import Labels
from trainables.datasets.splits import split_off

Features = NDArray[np.floating[Any]]

MOST_STEPS = 1000
"""The maximum number of steps of a linear classifier; where it is not enough, the last one counts.
"""
LEAST_DEVIATION = 1e-6
"""A feature with a smaller standard deviation is constant, and is not scaled."""
HELD_OUT = 0.2
"""The share of the training images that are held out to fit the temperature of an SVM.

For this purpose, a first SVM is fitted to the remaining images (`CalibratedSVC.fit`).
"""
REACHES, STEPS = (1e3, 1.6), 31
"""Settings of the grid search for the temperature; `REACHES` has one value for each round.

A round tries `STEPS` values, spaced geometrically from best / reach to best * reach, where best is
the result of the previous round (1 in the first round).
"""


def svm(seed: int, *, c: float, gamma: float) -> "CalibratedSVC":
    """Build a support vector machine with a Gaussian kernel and calibrated probabilities.

    `c` is the penalty `C` of scikit-learn's `SVC`. The kernel's coefficient is `gamma` times
    scikit-learn's default, 1 / (length * variance of the features).
    """
    return CalibratedSVC(c=c, gamma=gamma, seed=seed)


def knn(seed: int, *, neighbours: int) -> KNeighborsClassifier:
    """Build a nearest-neighbours classifier whose votes are weighted by the inverse distance.

    `seed` has no effect, because nothing is random.
    """
    return KNeighborsClassifier(n_neighbors=neighbours, weights="distance", algorithm="brute")


def tree(seed: int, *, tree_depth: int) -> DecisionTreeClassifier:
    """Build a decision tree whose depth is at most `tree_depth`."""
    return DecisionTreeClassifier(max_depth=tree_depth, random_state=seed)


class LinearClassifier(LogisticRegression):  # type: ignore[misc]
    """Logistic regression on standardised features, with the weights for the features as they are.

    `C` is the weight of the sum of the training losses beside half the squares of the weights.
    """

    coef_: Features
    intercept_: Features

    def __init__(self, *, C: float) -> None:
        super().__init__(C=C, max_iter=MOST_STEPS)

    def fit(self, values: Features, labels: NDArray[Any], sample_weight: Any = None) -> Self:
        """Fit to features, (images, length)."""
        mean, deviation = values.mean(axis=0), values.std(axis=0)
        deviation[deviation < LEAST_DEVIATION] = 1
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            super().fit((values - mean) / deviation, labels, sample_weight)
        self.coef_ = self.coef_ / deviation
        self.intercept_ = self.intercept_ - self.coef_ @ mean
        return self

    def logits(self) -> tuple[Features, Features]:
        """Return the weights (classes, length) and biases (classes,) of the logits.

        For two classes, scikit-learn stores only those of the second; the first has the logit 0.
        """
        if len(self.classes_) != 2:
            return self.coef_, self.intercept_
        return np.vstack([0 * self.coef_, self.coef_]), np.concatenate([[0.0], self.intercept_])


class CalibratedSVC(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """scikit-learn's `SVC` with probabilities: softmax(decisions / temperature).

    Temperature scaling (Guo et al. 2017) does not change which class has the highest score.

    `SVC(probability=True)` is about to be removed, and `CalibratedClassifierCV` needs at least as
    many images of each class as folds, whereas a class here may have a single image. Therefore the
    temperature is fitted to held-out images, with an SVC fitted to the others; then the final SVC
    is fitted to all images.
    """

    def __init__(self, *, c: float, gamma: float, seed: int) -> None:
        self.c, self.gamma, self.seed = c, gamma, seed

    def fit(
        self, features: Features, labels: Labels, sample_weight: NDArray[np.float64] | None = None
    ) -> Self:
        """Fit the temperature by means of a first SVC, then fit the final SVC to all images.

        The first SVC is fitted to the images that are not held out (`HELD_OUT`). Both fits together
        take about 1.6 times as long as a single one.
        """
        rest, drawn = split_off(
            labels, round(HELD_OUT * len(labels)), np.random.default_rng(self.seed)
        )
        weights = None if sample_weight is None else sample_weight[rest]
        part = self._svc(features).fit(features[rest], labels[rest], weights)
        self.temperature_ = temperature(part, features[drawn], labels[drawn])
        self.svc_ = self._svc(features).fit(features, labels, sample_weight)
        self.classes_ = self.svc_.classes_
        return self

    def predict_proba(self, features: Features) -> NDArray[np.float64]:
        """Return class probabilities, (images, classes), in the order of `classes_`."""
        chances: NDArray[np.float64] = softmax(_decisions(self.svc_, features) / self.temperature_)
        return chances

    def predict(self, features: Features) -> Labels:
        """Return the most probable class of each image, (images,)."""
        labels: Labels = self.classes_[self.predict_proba(features).argmax(axis=1)]
        return labels

    def _svc(self, features: Features) -> SVC:
        return SVC(
            C=self.c, gamma=self.gamma / (features.shape[1] * max(float(features.var()), 1e-12))
        )


def temperature(svc: SVC, features: Features, labels: Labels) -> float:
    """Find the temperature that minimises the cross-entropy of softmax(decisions / temperature).

    The search covers 0.001 to 1000, with a precision of 3 per cent. As in Platt 1999, targets are
    smoothed: each wrong class gets 1 / (images + classes), because a few images that are all
    classified correctly do not prove certainty. If there are no images, because every class has
    only one image, the result is 1.

    Args:
        svc: a fitted SVM.
        features: features of images to which it was not fitted, (images, length).
        labels: the classes of these images, (images,).
    """
    if not len(labels):
        return 1.0
    decisions, doubt = _decisions(svc, features), 1 / (len(labels) + len(svc.classes_))
    targets = np.where(labels[:, None] == svc.classes_, 1 - doubt * (len(svc.classes_) - 1), doubt)
    best = 1.0
    for reach in REACHES:
        tried = best * np.geomspace(1 / reach, reach, STEPS)
        best = min(
            tried.tolist(), key=lambda each: cross_entropy(softmax(decisions / each), targets)
        )
    return best


def cross_entropy(chances: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """Return the mean cross-entropy over images; both arguments are (images, classes)."""
    return float(-(targets * np.log(np.maximum(chances, 1e-300))).sum(axis=1).mean())


def _decisions(svc: SVC, features: Features) -> NDArray[np.float64]:
    """Compute the SVM's scores, (images, classes).

    With two classes scikit-learn returns a single column, the score d of the second class, which
    becomes (-d / 2, d / 2).
    """
    decisions: NDArray[np.float64] = svc.decision_function(features)
    return np.column_stack([-decisions / 2, decisions / 2]) if decisions.ndim == 1 else decisions
