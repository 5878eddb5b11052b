"""Stratified splits: each part gets each class in its share, at least one image of each.

scikit-learn's `train_test_split` refuses a part smaller than the number of classes; folders with
few images for each class need one. Folds are scikit-learn's. What is of one group, such as copies
of a picture, is not divided where groups are given.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Rows = NDArray[np.intp]


def split_off(
    labels: Labels, count: int, generator: np.random.Generator, *, left: int = 1
) -> tuple[Rows, Rows]:
    """Draw `count` rows, stratified, and return (the rest, the drawn), each in ascending order.

    Every class keeps at least one row among the drawn and `left` in the rest; the drawn are exactly
    `count` wherever that allows it.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    quotas = _quotas(sizes, count, sizes - left)
    drawn = [
        generator.permutation(np.flatnonzero(labels == label))[:quota]
        for label, quota in zip(classes, quotas, strict=True)
    ]
    chosen = np.sort(np.concatenate(drawn))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def _quotas(sizes: Rows, count: int, most: Rows) -> Rows:
    """Share `count` among classes of these sizes by largest remainders, within 1 and `most`."""
    exact = sizes * (count / sizes.sum())
    quotas: Rows = np.clip(np.floor(exact).astype(np.intp), 1, most)
    while quotas.sum() < count and (quotas < most).any():
        quotas[np.argmax(np.where(quotas < most, exact - quotas, -np.inf))] += 1
    while quotas.sum() > count and (quotas > 1).any():
        quotas[np.argmax(np.where(quotas > 1, quotas - exact, -np.inf))] -= 1
    return quotas


def divisible(labels: Labels, groups: Labels, needed: int) -> Labels:
    """Return the groups, (rows,), without those of classes that have fewer than `needed` of them.

    Each row of such a class is a group of its own. A group is of the class of its first row.
    """
    _, firsts = np.unique(groups, return_index=True)
    classes, counts = np.unique(labels[firsts], return_counts=True)
    is_divided = ~np.isin(labels, classes[counts >= needed])
    own = groups.max(initial=0) + 1 + np.arange(len(groups))
    _, numbers = np.unique(np.where(is_divided, own, groups), return_inverse=True)
    return np.asarray(numbers, np.int64)


def split_off_groups(
    labels: Labels, groups: Labels, count: int, generator: np.random.Generator, *, left: int = 1
) -> tuple[Rows, Rows]:
    """Draw about `count` rows as `split_off` does, but whole groups of rows.

    Every class has at least `left` groups in the rest and one among the drawn; `divisible` says of
    which classes that can be. Of a class, groups are drawn as long as they fit into its share.
    """
    _, firsts, numbers = np.unique(groups, return_index=True, return_inverse=True)
    sizes, of_class = np.bincount(numbers), labels[firsts]
    classes = np.unique(of_class)
    totals = np.array([sizes[of_class == label].sum() for label in classes])
    quotas = _quotas(totals, count, np.maximum(totals - left, 1))
    is_drawn = np.zeros(len(sizes), bool)
    for label, quota in zip(classes, quotas, strict=True):
        own = generator.permutation(np.flatnonzero(of_class == label))
        room = quota
        for group in own:
            if sizes[group] <= room and is_drawn[own].sum() < len(own) - left:
                is_drawn[group], room = True, room - sizes[group]
        if room == quota:
            is_drawn[own[np.argmin(sizes[own])]] = True
    return np.flatnonzero(~is_drawn[numbers]), np.flatnonzero(is_drawn[numbers])


def in_folds(
    labels: Labels, folds: int, seed: Sequence[int], groups: Labels | None = None
) -> list[Rows]:
    """Divide all rows into stratified folds, drawn from `seed`.

    The sizes of the folds, and those of each class in them, differ by one at most; with groups, as
    little as these allow. Each fold's rows are in ascending order.

    Raises:
        ValueError: every class has fewer rows than there are folds.
    """
    # scikit-learn takes a second to import, for which trials without folds need not wait.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    drawn = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    with warnings.catch_warnings():
        # A class of fewer rows than folds; what follows from it is reported with the data.
        warnings.filterwarnings("ignore", "The least populated class in y", UserWarning)
        divided = kind(folds, shuffle=True, random_state=drawn).split(
            np.empty(len(labels)), labels, groups
        )
        return [np.sort(rows) for _, rows in divided]
