"""A fitted classifier as a file, by skops.

There is no pickle, and nothing is made of a file but the classifiers listed in `SOUND`. skops
ensures that no other types come out of a file. But scikit-learn follows their contents without a
check, even out of bounds of its memory; so numbers that say where to look are checked here.
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
from sklearn.tree._tree import TREE_LEAF, Tree

from trainables.baselines.classifiers import CalibratedSVC

TRUSTED = ["sklearn.tree._tree.Tree", "trainables.baselines.classifiers.CalibratedSVC"]
"""Types of which skops makes an object here, beside those of its own list.

That list has numpy's arrays and scikit-learn's estimators.
"""


def write(classifier: ClassifierMixin, path: Path) -> None:
    """Write a fitted classifier to a file.

    Raises:
        OSError: the disk refuses.
    """
    skops.io.dump(classifier, path)


def read(path: Path) -> ClassifierMixin:
    """Return the classifier that `write` wrote.

    Raises:
        ValueError: the file holds anything else.
    """
    try:
        classifier = skops.io.load(path, trusted=TRUSTED)
        is_sound = (
            type(classifier) in SOUND
            and not _hides_a_method(classifier)
            and SOUND[type(classifier)](classifier)
        )
    except Exception as error:  # whatever a file that was not written here makes skops stumble over
        raise ValueError(
            f"{path.name} holds no fitted classifier "
            f"({(str(error).splitlines() or [type(error).__name__])[0][:200]})"
        ) from error
    if type(classifier) not in SOUND:
        raise ValueError(
            f"{path.name} holds a {type(classifier).__name__}, which is no classifier of ours"
        )
    if not is_sound:
        raise ValueError(
            f"{path.name} holds a {type(classifier).__name__} whose parts do not fit together"
        )
    made: ClassifierMixin = classifier
    return made


def _hides_a_method(found: Any) -> bool:
    """Return whether an attribute from the file hides one of scikit-learn's class.

    It could be another function or kind of machine.
    """
    return any(hasattr(type(found), name) for name in vars(found))


def _is(array: Any, dtype: type, *shape: int) -> bool:
    """Return whether this is an array of that kind of numbers and that shape."""
    return bool(type(array) is np.ndarray and array.dtype == dtype and array.shape == shape)


def _below(array: Any, limit: int) -> bool:
    """Return whether all numbers of an array are from 0 to below a limit."""
    return bool((array >= 0).all() and (array < limit).all())


def _is_sound_svm(found: Any) -> bool:
    """Return whether an SVM has as many support vectors, and numbers to each, as libsvm will read.

    It must also compare images with no others.
    """
    svc = found.svc_
    if (
        type(svc) is not SVC
        or _hides_a_method(svc)
        or svc.kernel != "rbf"
        or svc._sparse is not False
    ):
        return False
    classes, vectors, width, (images, _) = (
        len(svc.classes_),
        len(svc.support_vectors_),
        svc.n_features_in_,
        svc.shape_fit_,
    )
    pairs = classes * (classes - 1) // 2
    shapes = (
        _is(svc.support_, np.int32, vectors)
        and _is(svc.support_vectors_, np.float64, vectors, width)
        and _is(svc._n_support, np.int32, classes)
    )
    numbers = _is(svc._dual_coef_, np.float64, classes - 1, vectors) and _is(
        svc._intercept_, np.float64, pairs
    )
    if not (
        shapes
        and numbers
        and classes >= 2
        and vectors
        and svc._probA.shape == svc._probB.shape == (0,)
    ):
        return False
    same = np.array_equal(found.classes_, svc.classes_) and svc.shape_fit_ == (images, width)
    return bool(
        same
        and (svc._n_support >= 0).all()
        and svc._n_support.sum() == vectors
        and _below(svc.support_, images)
    )


def _is_sound_knn(found: Any) -> bool:
    """Return whether each image is compared with all, and none is looked up by a number."""
    (images, width), plain = (
        found._fit_X.shape,
        (
            found.weights,
            found.metric,
            found.effective_metric_,
            found.effective_metric_params_,
            found.n_jobs,
        ),
    )
    if found._fit_method != "brute" or plain != ("distance", "minkowski", "euclidean", {}, None):
        return False
    arrays = (
        _is(found._fit_X, found._fit_X.dtype.type, images, width)
        and found._fit_X.dtype.kind == "f"
        and _is(found._y, np.int64, images)
    )
    counts = (
        found.n_samples_fit_ == images
        and found.n_features_in_ == width
        and 1 <= found.n_neighbors <= images
    )
    return bool(arrays and counts and _below(found._y, len(found.classes_)))


def _is_sound_tree(found: Any) -> bool:
    """Return whether a tree can be followed safely.

    Each branch must lead to two nodes further down and ask for a feature that exists, and each leaf
    must hold a number for each class.
    """
    tree = found.tree_
    if type(tree) is not Tree or not 0 < tree.node_count == tree.capacity:
        return False
    nodes, left, right = np.arange(tree.node_count), tree.children_left, tree.children_right
    inner = left != TREE_LEAF
    ways = np.stack([left[inner], right[inner]])
    ends = (right[~inner] == TREE_LEAF).all() and tree.value.shape == (
        len(nodes),
        1,
        len(found.classes_),
    )
    asked = tree.n_features == found.n_features_in_ and _below(tree.feature[inner], tree.n_features)
    return bool(ends and asked and (ways > nodes[inner]).all() and _below(ways, len(nodes)))


SOUND: dict[type, Callable[[Any], bool]] = {
    CalibratedSVC: _is_sound_svm,
    KNeighborsClassifier: _is_sound_knn,
    DecisionTreeClassifier: _is_sound_tree,
}
"""The accepted classifiers, each with what must hold of it."""
