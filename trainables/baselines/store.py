"""Fitted classifiers in files, in the format of skops.

Pickle is not used. skops loads only trusted types, and only the classifiers in `SOUND` are
accepted. However, the compiled code of scikit-learn trusts the arrays of an estimator, and would
read out of bounds if their sizes or indices were wrong. Therefore the arrays are checked here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.tree._tree import TREE_LEAF, Tree

from trainables.baselines.classifiers import CalibratedSVC
from trainables.baselines.enlargement import Enlargement
from trainables.baselines.threshold import OtsuThreshold

TRUSTED = [
    "sklearn.tree._tree.Tree",
    "trainables.baselines.classifiers.CalibratedSVC",
    "trainables.baselines.enlargement.Enlargement",
    "trainables.baselines.threshold.OtsuThreshold",
]
"""Types that skops may load in addition to those that it trusts by default."""


def write(classifier: BaseEstimator, path: Path) -> None:
    """Write a fitted classifier to a file."""
    skops.io.dump(classifier, path)


def read(path: Path) -> BaseEstimator:
    """Read a classifier that `write` wrote.

    Raises:
        ValueError: the file contains anything else.
    """
    try:
        classifier = skops.io.load(path, trusted=TRUSTED)
        is_sound = (
            type(classifier) in SOUND
            and not _hides_a_method(classifier)
            and SOUND[type(classifier)](classifier)
        )
    except Exception as error:  # skops may raise anything for a file that was not written here
        raise ValueError(
            f"{path.name} does not contain a fitted classifier "
            f"({(str(error).splitlines() or [type(error).__name__])[0][:200]})"
        ) from error
    if type(classifier) not in SOUND:
        raise ValueError(
            f"{path.name} contains a {type(classifier).__name__}, which is not one of the "
            "supported classifiers"
        )
    if not is_sound:
        raise ValueError(
            f"{path.name} contains a {type(classifier).__name__} that is damaged or was changed: "
            "its attributes are not those of a fitted classifier"
        )
    fitted: BaseEstimator = classifier
    return fitted


def _hides_a_method(estimator: Any) -> bool:
    """True if an attribute that was loaded from the file hides an attribute of the class.

    Such an attribute could replace a method, or the implementation that the class selects.
    """
    return any(hasattr(type(estimator), name) for name in vars(estimator))


def _is(array: Any, dtype: type, *shape: int) -> bool:
    """True for an array of exactly this type and shape."""
    return bool(type(array) is np.ndarray and array.dtype == dtype and array.shape == shape)


def _below(array: Any, limit: int) -> bool:
    """True if all numbers of an array are at least 0 and below `limit`."""
    return bool((array >= 0).all() and (array < limit).all())


def _is_sound_svm(classifier: Any) -> bool:
    """True if the arrays of an SVM have the sizes that libsvm will read.

    libsvm computes these sizes from the numbers of classes and of support vectors, and would read
    beyond the end of a shorter array. `shape_fit_` and `support_` must be consistent too.
    """
    svc = classifier.svc_
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
    same = np.array_equal(classifier.classes_, svc.classes_) and svc.shape_fit_ == (images, width)
    return bool(
        same
        and (svc._n_support >= 0).all()
        and svc._n_support.sum() == vectors
        and _below(svc.support_, images)
    )


def _is_sound_knn(classifier: Any) -> bool:
    """True if the arrays are consistent, and prediction uses no search index (`brute`).

    An index would have further arrays, which are not checked here.
    """
    (images, width), plain = (
        classifier._fit_X.shape,
        (
            classifier.weights,
            classifier.metric,
            classifier.effective_metric_,
            classifier.effective_metric_params_,
            classifier.n_jobs,
        ),
    )
    if classifier._fit_method != "brute" or plain != (
        "distance",
        "minkowski",
        "euclidean",
        {},
        None,
    ):
        return False
    arrays = (
        _is(classifier._fit_X, classifier._fit_X.dtype.type, images, width)
        and classifier._fit_X.dtype.kind == "f"
        and _is(classifier._y, np.int64, images)
    )
    counts = (
        classifier.n_samples_fit_ == images
        and classifier.n_features_in_ == width
        and 1 <= classifier.n_neighbors <= images
    )
    return bool(arrays and counts and _below(classifier._y, len(classifier.classes_)))


def _is_sound_tree(classifier: Any) -> bool:
    """True if every path through the tree ends, and uses only features and values that exist.

    The children of a node must have larger numbers than the node itself, so that every path ends.
    Each inner node must test a feature that exists, and each leaf must have a value for each class.
    """
    tree = classifier.tree_
    if type(tree) is not Tree or not 0 < tree.node_count == tree.capacity:
        return False
    nodes, left_child, right_child = (
        np.arange(tree.node_count),
        tree.children_left,
        tree.children_right,
    )
    inner = left_child != TREE_LEAF
    children = np.stack([left_child[inner], right_child[inner]])
    are_leaves_sound = (right_child[~inner] == TREE_LEAF).all() and tree.value.shape == (
        len(nodes),
        1,
        len(classifier.classes_),
    )
    are_features_sound = tree.n_features == classifier.n_features_in_ and _below(
        tree.feature[inner], tree.n_features
    )
    return bool(
        are_leaves_sound
        and are_features_sound
        and (children > nodes[inner]).all()
        and _below(children, len(nodes))
    )


def _is_sound_forest(forest: Any) -> bool:
    """True if all trees are sound, and made for the features and classes of the forest."""
    classes, trees = forest.classes_, forest.estimators_
    return bool(
        _is(classes, np.int64, len(classes))
        and (forest.n_classes_, forest.n_outputs_, forest.n_jobs) == (len(classes), 1, None)
        and type(trees) is list
        and trees
        and all(
            type(tree) is DecisionTreeClassifier
            and not _hides_a_method(tree)
            and (tree.n_features_in_, tree.n_outputs_) == (forest.n_features_in_, 1)
            and len(tree.classes_) == len(classes)
            and _is_sound_tree(tree)
            for tree in trees
        )
    )


SOUND: dict[type, Callable[[Any], bool]] = {
    CalibratedSVC: _is_sound_svm,
    KNeighborsClassifier: _is_sound_knn,
    DecisionTreeClassifier: _is_sound_tree,
    RandomForestClassifier: _is_sound_forest,
    OtsuThreshold: lambda threshold: threshold.is_sound,
    Enlargement: lambda enlargement: enlargement.is_sound,
}
"""The accepted classifiers, each with the check of its arrays."""
