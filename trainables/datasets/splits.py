"""Stratified splits: each part gets a proportional share, at least one image, of each class.

scikit-learn's `train_test_split` raises an error for a part with fewer images than classes. Such
parts are needed here if classes have few images. Folds are drawn by scikit-learn. If groups of
images are given, such as copies of a picture, no group is divided.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Rows = NDArray[np.intp]


def split_off(
    labels: Labels, count: int, generator: np.random.Generator, *, min_left: int = 1
) -> tuple[Rows, Rows]:
    """Draw `count` rows, stratified by class.

    Of every class, at least one row is drawn, and at least `min_left` rows are not. A class with
    only `min_left` rows is not drawn from. Exactly `count` rows are drawn if these limits allow it.

    Returns:
        The rows that were not drawn, and those that were, each in ascending order.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    quotas = _quotas(sizes, count, sizes - min_left)
    drawn = [
        generator.permutation(np.flatnonzero(labels == label))[:quota]
        for label, quota in zip(classes, quotas, strict=True)
    ]
    chosen = np.sort(np.concatenate(drawn))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def _quotas(sizes: Rows, count: int, most: Rows) -> Rows:
    """Divide `count` among classes in proportion to their sizes (largest remainder method).

    Each quota is at most the class's element of `most`, and at least 1 unless this element is 0.
    """
    exact = sizes * (count / sizes.sum())
    quotas: Rows = np.clip(np.floor(exact).astype(np.intp), 1, most)
    while quotas.sum() < count and (quotas < most).any():
        quotas[np.argmax(np.where(quotas < most, exact - quotas, -np.inf))] += 1
    while quotas.sum() > count and (quotas > 1).any():
        quotas[np.argmax(np.where(quotas > 1, quotas - exact, -np.inf))] -= 1
    return quotas


def divisible(labels: Labels, groups: Labels, needed: int) -> Labels:
    """Dissolve the groups of each class that has fewer than `needed` groups.

    Each row of such a class becomes a group of its own. The class of a group is that of its first
    row.

    Args:
        labels: the class of each row, (rows,).
        groups: the number of each row's group, (rows,).
        needed: the minimum number of groups of a class whose groups are not dissolved.

    Returns:
        The new group numbers, (rows,).
    """
    _, firsts = np.unique(groups, return_index=True)
    classes, counts = np.unique(labels[firsts], return_counts=True)
    is_divided = ~np.isin(labels, classes[counts >= needed])
    own = groups.max(initial=0) + 1 + np.arange(len(groups))
    _, numbers = np.unique(np.where(is_divided, own, groups), return_inverse=True)
    return np.asarray(numbers, np.int64)


def split_off_groups(
    labels: Labels, groups: Labels, count: int, generator: np.random.Generator, *, min_left: int = 1
) -> tuple[Rows, Rows]:
    """Draw about `count` rows like `split_off`, but only whole groups of rows.

    Of every class, at least one group is drawn, and at least `min_left` groups are not; `divisible`
    ensures that there are enough. The groups of a class are considered in random order. A group is
    drawn if it fits into the remaining quota of the class. If none fits, the smallest is drawn.
    """
    _, firsts, numbers = np.unique(groups, return_index=True, return_inverse=True)
    sizes, of_class = np.bincount(numbers), labels[firsts]
    classes = np.unique(of_class)
    totals = np.array([sizes[of_class == label].sum() for label in classes])
    quotas = _quotas(totals, count, np.maximum(totals - min_left, 1))
    is_drawn = np.zeros(len(sizes), bool)
    for label, quota in zip(classes, quotas, strict=True):
        own = generator.permutation(np.flatnonzero(of_class == label))
        room = quota
        for group in own:
            if sizes[group] <= room and is_drawn[own].sum() < len(own) - min_left:
                is_drawn[group], room = True, room - sizes[group]
        if room == quota:
            is_drawn[own[np.argmin(sizes[own])]] = True
    return np.flatnonzero(~is_drawn[numbers]), np.flatnonzero(is_drawn[numbers])


def in_folds(
    labels: Labels, folds: int, seed: Sequence[int], groups: Labels | None = None
) -> list[Rows]:
    """Divide all rows into stratified folds, which are drawn at random from `seed`.

    The sizes of the folds, and those of each class in them, differ by at most one. With groups, the
    differences may be larger. Each fold's rows are in ascending order.

    Raises:
        ValueError: every class has fewer rows than there are folds.
    """
    # Imported here because scikit-learn takes a second, and trials without folds do not need it.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    drawn = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    with warnings.catch_warnings():
        # scikit-learn warns of classes with fewer rows than folds; `check_split` reports them.
        warnings.filterwarnings("ignore", "The least populated class in y", UserWarning)
        divided = kind(folds, shuffle=True, random_state=drawn).split(
            np.empty(len(labels)), labels, groups
        )
        return [np.sort(rows) for _, rows in divided]
