"""The classifiers of the baselines, by scikit-learn.

They go from features, float32 (images, length), to class probabilities. Their randomness
comes from the seed. Classes are whole numbers. Features are not standardised, because each kind has
a single scale already: standardising would give the features of empty corners the same weight as
all others, and costs the SVM 0.2 to 3 points of accuracy on MNIST (hog, edges and all; 10,000
images, C 10, gamma 1).
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.extmath import softmax

from trainables.datasets.arrays import Labels
from trainables.datasets.splits import split_off

Features = NDArray[np.floating[Any]]

HELD_OUT = 0.2
"""The share of the training images that is held out to find the SVM's temperature.

For that the SVM is fitted to the other images.
"""
REACHES, STEPS = (1e3, 1.6), 31
"""The search for the temperature has a round for each of `REACHES`.

A round tries `STEPS` values, spaced geometrically from 1 / reach to reach times the best so far,
which is 1 at first.
"""


def svm(seed: int, *, c: float, gamma: float) -> "CalibratedSVC":
    """Return a support vector machine with a Gaussian kernel."""
    return CalibratedSVC(c=c, gamma=gamma, seed=seed)


def knn(seed: int, *, neighbours: int) -> KNeighborsClassifier:
    """Return a classifier where the nearest training images vote, the nearer with more weight."""
    return KNeighborsClassifier(n_neighbors=neighbours, weights="distance", algorithm="brute")


def tree(seed: int, *, tree_depth: int) -> DecisionTreeClassifier:
    """Return a decision tree."""
    return DecisionTreeClassifier(max_depth=tree_depth, random_state=seed)


class CalibratedSVC(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """scikit-learn's `SVC` with probabilities: softmax(decisions / temperature).

    That is the method of Guo et al. 2017, which leaves each decision as it was.

    `SVC(probability=True)` is about to be removed, and `CalibratedClassifierCV` refuses classes of
    fewer images than folds; here a class may have a single image. The temperature is found on a
    part of the images with an SVC fitted to the others; then one is fitted to all.
    """

    def __init__(self, *, c: float, gamma: float, seed: int) -> None:
        self.c, self.gamma, self.seed = c, gamma, seed

    def fit(
        self, features: Features, labels: Labels, sample_weight: NDArray[np.float64] | None = None
    ) -> Self:
        """Fit twice, to the larger part and to all: about 1.6 times the time of one fit."""
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
        """Return the most likely class of each image."""
        labels: Labels = self.classes_[self.predict_proba(features).argmax(axis=1)]
        return labels

    def _svc(self, features: Features) -> SVC:
        return SVC(
            C=self.c, gamma=self.gamma / (features.shape[1] * max(float(features.var()), 1e-12))
        )


def temperature(svc: SVC, features: Features, labels: Labels) -> float:
    """Return the temperature at which the decisions on these images have the least cross-entropy.

    It is searched between 0.001 and 1000, to within 3 per cent. It is 1 if there are no images,
    which happens when each class has a single one. As in Platt 1999, targets are not 0 and 1: each
    wrong class gets 1 / (images + classes), because a few images that are all classified correctly
    do not prove certainty.
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
    """Return the mean over images; both arguments are (images, classes)."""
    return float(-(targets * np.log(np.maximum(chances, 1e-300))).sum(axis=1).mean())


def _decisions(svc: SVC, features: Features) -> NDArray[np.float64]:
    """Return decisions, (images, classes).

    With two classes scikit-learn gives a single column, the decision for the second class.
    """
    decisions: NDArray[np.float64] = svc.decision_function(features)
    return np.column_stack([-decisions / 2, decisions / 2]) if decisions.ndim == 1 else decisions
