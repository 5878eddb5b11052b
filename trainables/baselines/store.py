"""A fitted classifier as a file, by skops: no pickle, and nothing is made of a file but the classifiers that stand in `SOUND`.

skops sees to it that no other types come out of a file. What is in them, scikit-learn follows without a look, out of its memory if need be; so
numbers that say where to look are checked here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn.base import ClassifierMixin
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from trainables.baselines.classifiers import CalibratedSVC

TRUSTED = ["sklearn.tree._tree.Tree", "trainables.baselines.classifiers.CalibratedSVC"]
"""Types of which skops makes an object here, beside those of its own list (numpy's arrays, scikit-learn's estimators)."""


def write(classifier: ClassifierMixin, path: Path) -> None:
    """Raises OSError if the disk refuses."""
    skops.io.dump(classifier, path)


def read(path: Path) -> ClassifierMixin:
    """The classifier that `write` wrote.

    Raises:
        ValueError: the file holds anything else.
    """
    try:
        classifier = skops.io.load(path, trusted=TRUSTED)
        is_sound = type(classifier) in SOUND and SOUND[type(classifier)](classifier)
    except Exception as error:  # whatever a file that was not written here makes skops stumble over
        raise ValueError(f"{path.name} holds no fitted classifier ({(str(error).splitlines() or [type(error).__name__])[0][:200]})") from error
    if type(classifier) not in SOUND:
        raise ValueError(f"{path.name} holds a {type(classifier).__name__}, which is no classifier of ours")
    if not is_sound:
        raise ValueError(f"{path.name} holds a {type(classifier).__name__} whose parts do not fit together")
    made: ClassifierMixin = classifier
    return made


def _vectors_add_up(found: Any) -> bool:
    """Whether there are as many support vectors, and numbers to each, as libsvm will look for."""
    svc = found.svc_
    if type(svc) is not SVC:
        return False
    classes, vectors, counts = len(svc.classes_), len(svc.support_vectors_), svc.n_support_
    if len(counts) != classes or (counts < 0).any() or counts.sum() != vectors:
        return False
    pairs = classes * (classes - 1) // 2
    return bool(svc.support_vectors_.shape[1] == svc.n_features_in_ and svc._dual_coef_.shape == (classes - 1, vectors) and len(svc._intercept_) == pairs)


def _looks_at_all(found: Any) -> bool:
    """Whether each image is compared with all, and none is looked up by a number."""
    return bool(found._fit_method == "brute" and len(found._fit_X) == len(found._y) and (found._y >= 0).all() and (found._y < len(found.classes_)).all())


def _leads_down(found: Any) -> bool:
    """Whether each branch leads to a node further down and asks for a feature that there is."""
    tree = found.tree_
    if tree.node_count != tree.capacity:
        return False
    nodes = np.arange(tree.node_count)
    inner = tree.children_left >= 0
    ways = np.stack([tree.children_left[inner], tree.children_right[inner]])
    asked = tree.feature[inner]
    return bool((ways > nodes[inner]).all() and (ways < len(nodes)).all() and (asked >= 0).all() and (asked < found.n_features_in_).all())


SOUND: dict[type, Callable[[Any], bool]] = {CalibratedSVC: _vectors_add_up, KNeighborsClassifier: _looks_at_all, DecisionTreeClassifier: _leads_down}
"""The classifiers, each with what must hold of it."""
