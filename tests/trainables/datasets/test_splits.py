import numpy as np
import pytest

from trainables.datasets.splits import divisible, in_folds, split_off, split_off_groups


def labels_of(sizes):
    return (
        np.random.default_rng(1)
        .permutation(np.repeat(np.arange(len(sizes)), sizes))
        .astype(np.int64)
    )


def counts(labels, rows, classes):
    return np.bincount(labels[rows], minlength=classes)


SIZES = {
    "even": ([10, 10, 10], 9),
    "remainders": ([10, 10, 10], 10),
    "imbalanced": ([100, 20, 5], 25),
    "two a class, half": ([2, 2, 2, 2], 4),
    "one of a large class": ([1000, 3], 2),
    "all but one a class": ([4, 4, 4], 9),
    "small classes are rounded up": ([1000, 2, 2, 2, 2, 2], 10),
    "small classes are rounded down": ([2, 2, 2, 2, 100], 100),
    "ten thousand": ([5000] * 10, 10_000),
}


@pytest.mark.parametrize(("sizes", "count"), SIZES.values(), ids=SIZES)
def test_a_split_is_exact_disjoint_complete_and_has_every_class_on_both_sides(sizes, count):
    labels = labels_of(sizes)
    rest, drawn = split_off(labels, count, np.random.default_rng(0))
    assert sorted([*rest, *drawn]) == list(range(len(labels)))
    assert list(rest) == sorted(rest)
    assert list(drawn) == sorted(drawn)
    assert counts(labels, rest, len(sizes)).min() >= 1
    assert counts(labels, drawn, len(sizes)).min() >= 1
    assert len(drawn) == count


@pytest.mark.parametrize("name", ["even", "remainders", "imbalanced", "ten thousand"])
def test_each_class_gets_its_share(name):
    sizes, count = SIZES[name]
    labels = labels_of(sizes)
    _, drawn = split_off(labels, count, np.random.default_rng(0))
    assert (
        np.abs(counts(labels, drawn, len(sizes)) - np.array(sizes) * count / sum(sizes)).max() < 1
    )


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [([5, 5, 5], 1, 3), ([5, 5, 5], 0, 3), ([3, 3], 6, 4), ([3, 3], 100, 4)],
)
def test_where_every_class_cannot_be_kept_otherwise_the_count_gives_way(sizes, count, expected):
    labels = labels_of(sizes)
    rest, drawn = split_off(labels, count, np.random.default_rng(0))
    assert len(drawn) == expected
    assert counts(labels, drawn, len(sizes)).min() >= 1
    assert counts(labels, rest, len(sizes)).min() >= 1


def test_equal_generators_draw_equal_rows_and_others_do_not():
    labels = labels_of([20, 20])
    first, again, other = (
        split_off(labels, 10, np.random.default_rng(seed))[1] for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_drawn_rows_are_not_simply_the_first():
    _, drawn = split_off(np.zeros(100, dtype=np.int64), 50, np.random.default_rng(0))
    assert set(drawn) != set(range(50))


def groups_of(labels, sizes):
    """Return groups of these sizes in turn, each of rows of one class."""
    order = np.argsort(labels, kind="stable")
    numbers = np.repeat(np.arange(len(labels)), np.resize(sizes, len(labels)))[: len(labels)]
    groups = np.empty(len(labels), np.int64)
    groups[order] = numbers * 10 + labels[order]  # none goes on into the next class
    return groups


@pytest.mark.parametrize("group_sizes", [[1], [1, 1, 4], [2, 3], [7]])
@pytest.mark.parametrize("seed", range(3))
def test_no_group_is_divided_and_every_class_is_on_both_sides(group_sizes, seed):
    labels = labels_of([100, 60, 30])
    groups = groups_of(labels, group_sizes)
    rest, drawn = split_off_groups(labels, groups, 40, np.random.default_rng(seed), min_left=2)
    assert sorted([*rest, *drawn]) == list(range(len(labels)))
    assert not set(groups[rest]) & set(groups[drawn])
    assert counts(labels, drawn, 3).min() >= 1
    assert all(len(set(groups[rest][labels[rest] == label])) >= 2 for label in range(3))
    share = np.array([100, 60, 30]) * 40 / 190
    assert np.abs(counts(labels, drawn, 3) - share).max() < max(group_sizes) + 1
    if 1 in group_sizes:
        assert len(drawn) == 40, "images that are alone make up for what groups leave"


def test_a_group_larger_than_its_share_stays_behind():
    labels, groups = np.zeros(40, np.int64), np.repeat([0, 1, 2], [30, 6, 4])
    _, drawn = split_off_groups(labels, groups, 8, np.random.default_rng(0))
    assert set(groups[drawn]) in ({1}, {2})


def test_classes_of_too_few_groups_are_divided_row_by_row():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    groups = np.array([5, 5, 5, 7, 8, 8, 9, 2, 5])
    found = divisible(labels, groups, 3)
    assert len(set(found[labels == 0])) == 4
    assert found[4] == found[5]
    assert len(set(found)) == 8


def test_no_fold_divides_a_group():
    labels = labels_of([60, 30])
    groups = groups_of(labels, [3])
    folds = in_folds(labels, 3, (0, 1), groups)
    assert sorted(row for rows in folds for row in rows) == list(range(90))
    assert all(len(set(groups[rows])) == 10 for rows in folds)
    assert sum(len(set(groups[rows])) for rows in folds) == len(set(groups))


def test_a_class_smaller_than_the_folds_makes_no_noise():
    """scikit-learn would warn on the terminal; warnings are errors here."""
    labels = labels_of([20, 2])
    folds = in_folds(labels, 5, [0])
    assert sorted(row for fold in folds for row in fold) == list(range(22))
