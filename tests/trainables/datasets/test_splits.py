import numpy as np
import pytest

from trainables.datasets.splits import split_off


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
