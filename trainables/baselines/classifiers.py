"""The classifiers of the baselines, by scikit-learn: from features, float32 (images, length), to
class probabilities.

What is random in them comes from the seed. Classes are whole numbers. Features are taken as they
are, since each kind is of one scale already: to standardise each one weighs those of empty corners
like all others, and costs the SVM 0.2 to 3 points of accuracy on MNIST (hog, edges and all; 10,000
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
"""The share of the training images from which the SVM's temperature is found, which it has not been
fitted to then.
"""
REACHES, STEPS = (1e3, 1.6), 31
"""The temperature is looked for up to so many times, and down to that part of, 1, then of the best
so far; in so many steps each time.
"""


def svm(seed: int, *, c: float, gamma: float) -> "CalibratedSVC":
    """A support vector machine with a Gaussian kernel."""
    return CalibratedSVC(c=c, gamma=gamma, seed=seed)


def knn(seed: int, *, neighbours: int) -> KNeighborsClassifier:
    """The nearest training images vote, the nearer with more weight."""
    return KNeighborsClassifier(n_neighbors=neighbours, weights="distance", algorithm="brute")


def tree(seed: int, *, tree_depth: int) -> DecisionTreeClassifier:
    """A decision tree."""
    return DecisionTreeClassifier(max_depth=tree_depth, random_state=seed)


class CalibratedSVC(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """scikit-learn's `SVC` with probabilities: softmax(decisions / temperature), as of Guo et al.
    2017, which leaves each decision as it was.

    `SVC(probability=True)` is about to go, and `CalibratedClassifierCV` refuses classes of fewer
    images than folds; here a class may have a single image. The temperature is found on a part of
    the images with an SVC fitted to the others; then one is fitted to all.
    """

    def __init__(self, *, c: float, gamma: float, seed: int) -> None:
        self.c, self.gamma, self.seed = c, gamma, seed

    def fit(self, features: Features, labels: Labels) -> Self:
        """Twice, to the larger part and to all: about 1.6 times the time of one fit."""
        rest, drawn = split_off(
            labels, round(HELD_OUT * len(labels)), np.random.default_rng(self.seed)
        )
        part = self._svc(features).fit(features[rest], labels[rest])
        self.temperature_ = temperature(part, features[drawn], labels[drawn])
        self.svc_ = self._svc(features).fit(features, labels)
        self.classes_ = self.svc_.classes_
        return self

    def predict_proba(self, features: Features) -> NDArray[np.float64]:
        """Class probabilities, (images, classes), in the order of `classes_`."""
        chances: NDArray[np.float64] = softmax(_decisions(self.svc_, features) / self.temperature_)
        return chances

    def predict(self, features: Features) -> Labels:
        """The likeliest class of each."""
        labels: Labels = self.classes_[self.predict_proba(features).argmax(axis=1)]
        return labels

    def _svc(self, features: Features) -> SVC:
        return SVC(
            C=self.c, gamma=self.gamma / (features.shape[1] * max(float(features.var()), 1e-12))
        )


def temperature(svc: SVC, features: Features, labels: Labels) -> float:
    """The one, from a thousandth to a thousand and to 3 per cent, under which the machine's
    decisions on these images have the least cross-entropy; 1 where there are none, since each class
    has but one image. As in Platt 1999 one image more of each other class is thought to be taken
    for it: few that are all told right are no proof of certainty.
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
    """Mean over images; both are (images, classes)."""
    return float(-(targets * np.log(np.maximum(chances, 1e-300))).sum(axis=1).mean())


def _decisions(svc: SVC, features: Features) -> NDArray[np.float64]:
    """(images, classes), also of two classes, of which scikit-learn tells one column."""
    found: NDArray[np.float64] = svc.decision_function(features)
    return np.column_stack([-found / 2, found / 2]) if found.ndim == 1 else found
