"""Stratified splits: each part gets each class in its share, at least one image of each.

scikit-learn's `train_test_split` refuses a part smaller than the number of classes; folders with
few images for each class need one. Folds are scikit-learn's.
"""

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


def in_folds(labels: Labels, folds: int, seed: Sequence[int]) -> list[Rows]:
    """Divide all rows into stratified folds, drawn from `seed`.

    The sizes of the folds, and those of each class in them, differ by one at most. Each fold's rows
    are in ascending order.

    Raises:
        ValueError: every class has fewer rows than there are folds.
    """
    # scikit-learn takes a second to import, for which trials without folds need not wait.
    from sklearn.model_selection import StratifiedKFold

    drawn = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
    divided = StratifiedKFold(folds, shuffle=True, random_state=drawn).split(
        np.empty(len(labels)), labels
    )
    return [np.sort(rows) for _, rows in divided]
