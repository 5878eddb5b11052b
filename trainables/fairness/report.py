"""The metrics of every group of images, with intervals, and the gap between groups.

The results are JSON-compatible values, which an evaluation contains under `GROUPS`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.entries import INTERVAL_LEVEL
from trainables.errors import printable
from trainables.fairness.attributes import Attributes
from trainables.fairness.cells import LEAST_IMAGES, Cells, Numbers, count_cells
from trainables.statistics import difference_bounds, share_bounds
from trainables.values import Evaluation, Json

GROUPS = "groups"
"""The key of these results in an evaluation."""
MOST_CELLS = 30
"""The maximum number of classes within groups that are listed, those with the lowest shares."""
RATE = 1 - INTERVAL_LEVEL

Probabilities = NDArray[np.float64]
Measures = Mapping[str, Callable[[Numbers, Probabilities], Any]]
"""Metrics by name: functions of class numbers and probabilities to a value, its error and more."""


def report_groups(
    labels: Numbers,
    chances: Probabilities,
    numbers: Numbers,
    attributes: Attributes,
    classes: Sequence[str],
    measures: Measures,
) -> Evaluation:
    """Measure class probabilities in each group of images.

    Args:
        labels: true class numbers, (images,).
        chances: class probabilities, (images, classes).
        numbers: the number of each image's group, (images,), or `NO_GROUP`.
        attributes: the names of the groups.
        classes: the names of the classes.
        measures: the metrics that are reported besides accuracy.

    Returns:
        `attributes`, with the groups of each attribute and the `gap` of their accuracies; `cells`,
        the classes within the combinations of all attributes, those with the lowest accuracy first;
        `worst`, the first of those that have at least `LEAST_IMAGES` images; the names of all
        `small` groups and cells, which have fewer; and the number of images that belong to
        `no_group`. A share has the 95 % interval from `low` to `high`.
    """
    is_right = chances.argmax(axis=1) == labels
    by_attribute: Json = {}
    for title in attributes.titles:
        rows = [
            _group(value, np.isin(numbers, groups), labels, chances, measures)
            for value, groups in attributes.values(title).items()
        ]
        rows = [row for row in rows if row["images"]]
        by_attribute[title] = {"groups": rows, "gap": gap_of(rows)}
    cells = count_cells(labels, is_right, numbers)
    rows = _cell_rows(cells, attributes, classes)
    return {
        "attributes": by_attribute,
        "cells": rows[:MOST_CELLS],
        "worst": _worst(rows),
        "small": _small_names(by_attribute, rows),
        "no_group": int((numbers < 0).sum()),
    }


def _small_names(by_attribute: Json, cells: Sequence[Json]) -> list[str]:
    """Return the names of the groups by one attribute, and of the cells, with too few images."""
    groups = [
        (f"{printable(title)}={group['name']}", group)
        for title, attribute in by_attribute.items()
        for group in attribute["groups"]
    ]
    groups += [(f"{cell['class']} with {cell['group']}", cell) for cell in cells]
    return [f"{name} ({group['images']})" for name, group in groups if group["is_small"]]


def _group(
    name: str,
    is_member: NDArray[np.bool_],
    labels: Numbers,
    chances: Probabilities,
    measures: Measures,
) -> Json:
    """Measure one group; if it has no images, return only that."""
    images = int(is_member.sum())
    if not images:
        return {"images": 0}
    own, own_chances = labels[is_member], chances[is_member]
    right = int((own_chances.argmax(axis=1) == own).sum())
    metrics = {metric: float(measure(own, own_chances)[0]) for metric, measure in measures.items()}
    return {"name": printable(name), **_share(right, images, RATE), **metrics}


def _share(right: int, images: int, rate: float) -> Json:
    low, high = share_bounds(right / images, images, rate / 2)
    return {
        "images": images,
        "right": right,
        "accuracy": right / images,
        "low": low,
        "high": high,
        "is_small": images < LEAST_IMAGES,
    }


def gap_of(groups: Sequence[Json]) -> Json | None:
    """Return the difference between the highest and the lowest accuracy of groups.

    Its interval covers the difference of the two true values that are furthest apart, whichever
    groups have them: each ordered pair of groups gets an interval of the difference
    (`difference_bounds`) whose error rate is divided by the number of pairs (Bonferroni), and both
    ends are the highest of all pairs.

    Args:
        groups: groups as in `report_groups`; those of fewer than `LEAST_IMAGES` images are left
            out.

    Returns:
        The `value`, its interval from `low` to `high`, and the names of the `best` and the `worst`
        group; None if there are fewer than two groups.
    """
    large = [group for group in groups if not group["is_small"]]
    if len(large) < 2:
        return None
    pairs = list(permutations(large, 2))
    rate = RATE / len(pairs)
    ends = []
    for first, second in pairs:
        values = first["accuracy"], second["accuracy"]
        low_first, high_first = share_bounds(values[0], first["images"], rate)
        low_second, high_second = share_bounds(values[1], second["images"], rate)
        ends.append(difference_bounds(values, ((low_first, high_second), (high_first, low_second))))
    worst = min(large, key=_accuracy)
    best = max((group for group in large if group is not worst), key=_accuracy)
    return {
        "value": best["accuracy"] - worst["accuracy"],
        "low": max(0.0, *(low for low, _ in ends)),
        "high": min(1.0, max(high for _, high in ends)),
        "best": best["name"],
        "worst": worst["name"],
    }


def _accuracy(group: Json) -> float:
    return float(group["accuracy"])


def _cell_rows(cells: Cells, attributes: Attributes, classes: Sequence[str]) -> list[Json]:
    """Describe the cells, those with the lowest accuracy first, and of these the largest."""
    rows = [
        {
            "class": classes[number],
            "group": attributes.name(group),
            **_share(right, images, RATE),
        }
        for number, group, images, right in zip(*(each.tolist() for each in cells), strict=True)
    ]
    return sorted(rows, key=lambda row: (row["accuracy"], -row["images"]))


def _worst(cells: Sequence[Json]) -> Json | None:
    """Return the first cell with enough images, with an interval of the lowest true accuracy.

    The interval covers it, whichever cell has it: the intervals of all cells hold together
    (Bonferroni), and each end is the lowest of all cells.
    """
    large = [cell for cell in cells if not cell["is_small"]]
    if not large:
        return None
    ends = [share_bounds(cell["accuracy"], cell["images"], RATE / 2 / len(large)) for cell in large]
    low, high = (min(end) for end in zip(*ends, strict=True))
    return {**large[0], "low": low, "high": high, "compared": len(large)}


def group_tables(groups: Evaluation, titles: Mapping[str, str]) -> list[Json]:
    """Return the tables that a report shows (`Task.evaluate`).

    Args:
        groups: a result of `report_groups`.
        titles: the titles of the metrics besides accuracy, by name.
    """
    tables = []
    for attribute, results in groups["attributes"].items():
        rows = results["groups"]
        further = {name: titles[name] for name in (rows[0] if rows else ()) if name in titles}
        tables.append(
            {
                "title": f"Groups: {attribute}",
                "columns": ["group", "images", "accuracy", "95 % interval", *further.values()],
                "rows": [_row([row["name"]], row, further) for row in rows],
            }
        )
    return [
        *tables,
        {
            "title": "Classes within groups, the lowest accuracy first",
            "columns": ["class", "group", "images", "accuracy", "95 % interval"],
            "rows": [_row([row["class"], row["group"]], row, ()) for row in groups["cells"]],
        },
    ]


def _row(names: list[str], row: Json, further: Iterable[str]) -> list[Any]:
    interval = f"{100 * row['low']:.1f} to {100 * row['high']:.1f} %"
    images = f"{row['images']:,}" + " (few)" * row["is_small"]
    accuracy = f"{100 * row['accuracy']:.1f} %"
    return [*names, images, accuracy, interval, *(row[name] for name in further)]
