"""Accuracy by group: counts, intervals, the worst cell, the gap, and the small groups."""

import numpy as np

from trainables.fairness.groups import (
    LEAST_IMAGES,
    NO_GROUP,
    Attributes,
    count_cells,
    gap_of,
    group_tables,
    lowest_share,
    report_groups,
)
from trainables.tasks.classification.entry import ENTRY as CLASSIFICATION
from trainables.tasks.metrics import SCORES

METRICS = [metric for metric in CLASSIFICATION.metrics if not metric.is_share]

ATTRIBUTES = Attributes(("mark", "size"), (("green", "big"), ("red", "big"), ("red", "small")), {})
CLASSES = ("cat", "dog")


def images(counts):
    """Labels, chances and groups for (class, group, images, right) rows."""
    labels, groups, chances = [], [], []
    for label, group, number, right in counts:
        for row in range(number):
            labels.append(label)
            groups.append(group)
            guess = label if row < right else 1 - label
            chances.append([0.8, 0.2] if guess == 0 else [0.2, 0.8])
    return np.array(labels), np.array(chances), np.array(groups)


COUNTS = [(0, 0, 40, 40), (0, 1, 20, 10), (1, 0, 20, 18), (1, 1, 40, 40), (1, 2, 5, 0)]


def test_every_group_is_counted_and_measured():
    labels, chances, groups = images([*COUNTS, (0, NO_GROUP, 7, 0)])
    result = report_groups(labels, chances, groups, ATTRIBUTES, CLASSES, SCORES)
    green, red = result["attributes"]["mark"]["groups"]
    assert (green["name"], green["images"], green["right"]) == ("green", 60, 58)
    assert (red["name"], red["images"], red["right"]) == ("red", 65, 50)
    assert red["low"] < 50 / 65 < red["high"]
    is_red = groups > 0
    assert red["macro_f1"] == SCORES["macro_f1"](labels[is_red], chances[is_red]).value
    big, small = result["attributes"]["size"]["groups"]
    assert not big["is_small"]
    assert small["is_small"]
    assert result["attributes"]["size"]["gap"] is None
    assert result["no_group"] == 7


def test_the_worst_cell_has_enough_images_and_the_interval_of_the_lowest_of_all():
    labels, chances, groups = images(COUNTS)
    result = report_groups(labels, chances, groups, ATTRIBUTES, CLASSES, SCORES)
    assert [(cell["class"], cell["group"]) for cell in result["cells"][:2]] == [
        ("dog", "mark=red, size=small"),  # few images: listed, but not compared
        ("cat", "mark=red, size=big"),
    ]
    worst = result["worst"]
    assert (worst["class"], worst["group"], worst["accuracy"]) == ("cat", "mark=red, size=big", 0.5)
    alone = result["cells"][1]
    assert worst["low"] < alone["low"]  # corrected for the number of cells
    assert worst["high"] >= alone["high"]


def test_groups_without_images_are_left_out():
    labels, chances, groups = images([(0, 0, 20, 20), (1, 0, 20, 20)])
    result = report_groups(labels, chances, groups, ATTRIBUTES, CLASSES, SCORES)
    assert [row["name"] for row in result["attributes"]["mark"]["groups"]] == ["green"]


def test_no_cell_is_the_worst_if_all_are_small():
    labels, chances, groups = images([(0, 0, LEAST_IMAGES - 1, 3), (1, 1, 4, 4)])
    result = report_groups(labels, chances, groups, ATTRIBUTES, CLASSES, SCORES)
    assert result["worst"] is None
    assert lowest_share(count_cells(labels, chances.argmax(axis=1) == labels, groups))[0] == 3 / 10


def test_the_gap_covers_the_true_one_of_equal_and_of_unequal_groups():
    """Simulated: at least 95 % of the intervals cover the true gap."""
    generator, sizes = np.random.default_rng(5), (30, 60, 200)
    for truth in ((0.8, 0.8, 0.8), (0.6, 0.9, 0.95)):
        covered = 0
        for _ in range(300):
            rights = [
                int(generator.binomial(size, share))
                for size, share in zip(sizes, truth, strict=True)
            ]
            gap = gap_of(
                [
                    {"name": str(number), "images": size, "accuracy": right / size}
                    | {"is_small": False}
                    for number, (size, right) in enumerate(zip(sizes, rights, strict=True))
                ]
            )
            covered += gap["low"] <= max(truth) - min(truth) <= gap["high"]
        assert covered >= 285


def test_cells_are_those_of_a_loop():
    generator = np.random.default_rng(1)
    labels, groups = generator.integers(0, 4, 500), generator.integers(-1, 3, 500)
    is_right = generator.random(500) < 0.7
    cells = count_cells(labels, is_right, groups)
    for label, group, number, right in zip(*cells, strict=True):
        is_member = (labels == label) & (groups == group)
        assert (number, right) == (is_member.sum(), is_right[is_member].sum())
    assert cells.images.sum() == (groups != NO_GROUP).sum()


def test_the_lowest_share_without_groups_is_that_of_the_worst_class():
    labels = np.repeat([0, 1], [100, 50])
    is_right = np.concatenate([np.arange(100) < 90, np.arange(50) < 30])
    value, error, freedom = lowest_share(count_cells(labels, is_right, None))
    assert (value, freedom) == (0.6, 49)
    # Two intervals hold together, so each is wider than one alone.
    assert 1.1 < error / np.sqrt(0.6 * 0.4 / 50) < 1.3


def test_a_tiny_cell_does_not_make_the_lowest_share_look_exact():
    labels, chances, groups = images([(0, 0, 200, 120), (1, 0, 200, 180)])
    plain = lowest_share(count_cells(labels, chances.argmax(axis=1) == labels, groups))
    labels, chances, groups = images([(0, 0, 200, 120), (1, 0, 200, 180), (1, 1, 1, 1)])
    tiny = lowest_share(count_cells(labels, chances.argmax(axis=1) == labels, groups))
    assert tiny[:2] == plain[:2]
    assert tiny[2] == 0  # no interval


def test_all_small_groups_are_named():
    counts = [(label, 0, 20, 10) for label in range(2)] + [(0, 2, 2, 2), (1, 1, 3, 3)]
    labels, chances, groups = images(counts)
    result = report_groups(labels, chances, groups, ATTRIBUTES, CLASSES, SCORES)
    assert result["small"] == [
        "mark=red (5)",
        "size=small (2)",
        "dog with mark=red, size=big (3)",
        "cat with mark=red, size=small (2)",
    ]


def test_equal_groups_have_two_names():
    groups = [{"name": name, "images": 50, "accuracy": 1.0, "is_small": False} for name in "ab"]
    gap = gap_of(groups)
    assert (gap["worst"], gap["best"], gap["value"]) == ("a", "b", 0.0)


def test_nothing_is_known_about_no_images():
    empty = np.zeros(0, np.int64)
    assert lowest_share(count_cells(empty, empty.astype(bool), None)) == (0.0, 0.5, 0.0)


def test_tables_have_every_group_and_cell():
    labels, chances, groups = images(COUNTS)
    result = report_groups(labels, chances, groups, ATTRIBUTES, CLASSES, SCORES)
    tables = group_tables(result, {metric.name: metric.title for metric in METRICS})
    assert [table["title"] for table in tables] == [
        "Groups: mark",
        "Groups: size",
        "Classes within groups, the lowest accuracy first",
    ]
    assert tables[0]["columns"] == [
        *("group", "images", "accuracy", "95 % interval"),
        *("balanced accuracy", "macro F1", "log loss", "AUC"),
    ]
    first = tables[2]["rows"][0]
    assert first[:4] == ["dog", "mark=red, size=small", "5 (few)", "0.0 %"]
    assert all(len(row) == len(table["columns"]) for table in tables for row in table["rows"])
