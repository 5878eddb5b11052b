"""Results by groups of images: the attributes that divide images, and the metrics of each group.

The attributes are a CSV file (`data.groups`). Its first column is `image`, the path of an image in
the data set's folder with `/` between folders. Each further column is an attribute, such as `sex`
or `camera`, with a value for every image.

A class within a group is called a cell. The worst cell is that of "worst-group accuracy" in Sagawa
et al. 2020, "Distributionally Robust Neural Networks for Group Shifts", whose groups are the
combinations of a class and an attribute. The results are JSON-compatible values, which an
evaluation contains under `GROUPS`.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.entries import INTERVAL_LEVEL
from trainables.disk import read_regular
from trainables.errors import DataError, counted, printable
from trainables.statistics import difference_bounds, share_bounds
from trainables.values import Evaluation, Json

IMAGE = "image"
"""The title of the first column."""
MAX_VALUES = 50
"""The maximum number of values of an attribute; a group of each would have too few images."""
NO_GROUP = -1
"""The number of the group of an image without attributes, such as one that was recorded later."""
LEAST_IMAGES = 11
"""The minimum number of images of a group whose share is compared with those of others.

With fewer, there is no interval (`trainables.catalog.entries.LEAST_FREEDOM`).
"""

Numbers = NDArray[np.int64]

GROUPS = "groups"
"""The key of the results of groups in an evaluation."""
MOST_CELLS = 30
"""The maximum number of classes within groups that are listed, those with the lowest shares."""
RATE = 1 - INTERVAL_LEVEL

Probabilities = NDArray[np.float64]
Measures = Mapping[str, Callable[[Numbers, Probabilities], Any]]
"""Metrics by name: functions of class numbers and probabilities to a value, its error and more."""


@dataclass(frozen=True)
class Attributes:
    """The attributes of the images of a data set."""

    titles: tuple[str, ...]
    """The names of the attributes."""
    groups: tuple[tuple[str, ...], ...]
    """The combinations of values that occur, sorted; each has a value for every attribute."""
    number_of: dict[str, int] = field(repr=False, hash=False)
    """The number of the group of each image, by the image's path in the data set's folder."""

    def numbers(self, names: Iterable[str]) -> NDArray[np.int64]:
        """Return the number of each image's group, (images,); `NO_GROUP` for an unknown image."""
        return np.array([self.number_of.get(name, NO_GROUP) for name in names], np.int64)

    def name(self, group: int) -> str:
        """Return the name of a group, such as `sex=f, camera=old`, in printable characters."""
        values = zip(self.titles, self.groups[group], strict=True)
        return printable(", ".join(f"{title}={value}" for title, value in values))

    def values(self, title: str) -> dict[str, list[int]]:
        """Return the numbers of the groups with each value of an attribute, sorted by value."""
        column = self.titles.index(title)
        groups_of: dict[str, list[int]] = {}
        for number, values in enumerate(self.groups):
            groups_of.setdefault(values[column], []).append(number)
        return dict(sorted(groups_of.items()))


def read_attributes(path: Path) -> Attributes:
    """Read the attributes of images.

    Raises:
        DataError: the file cannot be read, or is not such a table.
    """
    try:
        text = read_regular(path).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise DataError(
            f"the groups '{printable(str(path))}' (--groups) cannot be read "
            f"({error.strerror or error}). Pass a CSV file with the columns {IMAGE} and one for "
            "each attribute."
        ) from error
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    try:
        titles = next(reader, [])
        _check_titles(path, titles)
        values_of: dict[str, tuple[str, ...]] = {}
        for row in reader:
            if row:
                _check_row(path, reader.line_num, row, titles, values_of)
                values_of[row[0]] = tuple(row[1:])
    except csv.Error as error:
        raise _refusal(path, reader.line_num, f"is no CSV ({error})") from error
    for column, title in enumerate(titles[1:]):
        if (count := len({values[column] for values in values_of.values()})) > MAX_VALUES:
            raise DataError(
                f"the column '{printable(title)}' of '{printable(str(path))}' (--groups) has "
                f"{count:,} values, but an attribute may have at most {MAX_VALUES}. Combine "
                "values, such as ages into ranges, or remove the column."
            )
    groups = tuple(sorted(set(values_of.values())))
    numbers = {values: number for number, values in enumerate(groups)}
    return Attributes(
        tuple(titles[1:]), groups, {image: numbers[values] for image, values in values_of.items()}
    )


def _check_titles(path: Path, titles: list[str]) -> None:
    if titles[:1] != [IMAGE] or len(titles) < 2 or not all(map(str.strip, titles)):
        raise _refusal(path, 1, f"has the columns '{','.join(titles)[:80]}'")
    if repeated := [title for title, count in Counter(titles).items() if count > 1]:
        raise _refusal(path, 1, f"has the column '{repeated[0]}' twice")


def _check_row(
    path: Path, line: int, row: list[str], titles: list[str], earlier: Collection[str]
) -> None:
    if len(row) != len(titles):
        raise _refusal(path, line, f"has {len(row)} values, but there are {len(titles)} columns")
    if row[0] in earlier:
        raise _refusal(path, line, f"repeats the image '{row[0]}'")
    for title, value in zip(titles, row, strict=True):
        if not value.strip():
            raise _refusal(path, line, f"has no value for '{title}'; write for example 'unknown'")


def _refusal(path: Path, line: int, problem: str) -> DataError:
    return DataError(
        f"line {line} of '{printable(str(path))}' (--groups) {printable(problem)}. The file needs "
        f"the columns {IMAGE} and one for each attribute, and one line for each image."
    )


def check_images(
    path: Path, attributes: Attributes, images: Collection[str], omitted: Collection[str] = ()
) -> None:
    """Check that the file has exactly the images of the data set.

    Args:
        path: the file, for messages.
        attributes: its content.
        images: the paths of the images in the data set's folder.
        omitted: printable paths of files there that are not used, which the file may have too.

    Raises:
        DataError: an image has no line, or a line has no image.
    """
    where = f"'{printable(str(path))}' (--groups)"
    if missing := [image for image in images if image not in attributes.number_of]:
        raise DataError(
            f"{where} has no line for {counted(len(missing), 'image')} of the data set, such as "
            f"'{printable(missing[0])}'. Add a line for each image."
        )
    in_data = set(images)
    surplus = [
        image
        for image in attributes.number_of
        if image not in in_data and printable(image) not in omitted
    ]
    if surplus:
        raise DataError(
            f"{where} has {counted(len(surplus), 'line')} for files that are not images of the "
            f"data set, such as '{printable(surplus[0])}'. Write paths relative to the folder of "
            "the data set, or remove these lines."
        )


class Cells(NamedTuple):
    """The images of each class and group that occur together, (cells,) each."""

    classes: Numbers
    """The number of the class."""
    groups: Numbers
    """The number of the group."""
    images: Numbers
    right: Numbers
    """The number of correct answers."""

    @property
    def compared(self) -> NDArray[np.bool_]:
        """True for the cells with enough images to be compared; for all if none has enough."""
        are_large = self.images >= LEAST_IMAGES
        return are_large if are_large.any() else np.ones(len(self.images), bool)


def count_cells(classes: Numbers, is_right: NDArray[np.bool_], groups: Numbers | None) -> Cells:
    """Count the images and the correct answers of each cell.

    Args:
        classes: the true class numbers, (images,).
        is_right: True for each image that is classified correctly, (images,).
        groups: the number of each image's group, (images,), or `NO_GROUP`, which leaves the image
            out; None if all images are of the same group.
    """
    if groups is None:
        groups = np.zeros(len(classes), np.int64)
    has_group = groups != NO_GROUP
    classes, is_right, groups = classes[has_group], is_right[has_group], groups[has_group]
    width = int(classes.max(initial=0)) + 1
    cells, places = np.unique(groups * width + classes, return_inverse=True)
    return Cells(
        cells % width,
        cells // width,
        np.bincount(places, minlength=len(cells)),
        np.bincount(places, weights=is_right, minlength=len(cells)).astype(np.int64),
    )


def _lowest_bounds(shares: Sequence[float], images: Sequence[int]) -> tuple[float, float]:
    """Compute the 95 % interval of the lowest true share of several cells, whichever has it.

    The exact intervals of all cells hold together (Bonferroni), and each end is the lowest of all.
    """
    rate = RATE / 2 / len(shares)
    ends = [share_bounds(share, count, rate) for share, count in zip(shares, images, strict=True)]
    low, high = (min(end) for end in zip(*ends, strict=True))
    return low, high


def lowest_share(cells: Cells) -> tuple[float, float, float]:
    """Return the lowest share among the cells that are compared, its error, and its freedom.

    The lowest of several measured shares is too low in the mean, since chance decides which one it
    is. Therefore the error is that of an interval which covers the lowest true share, whichever
    cell has it: the exact intervals of all cells hold together (Bonferroni), and the lowest of
    their lower and of their upper ends are its ends. The error is the larger distance to an end,
    divided by the quantile of Student's t for the smallest cell that is compared (`Metric.interval`
    multiplies them again). The degrees of freedom are the smallest number of images of all cells,
    less one, so that the interval is unknown if a cell is too small to be compared.

    Returns:
        The share, its standard error, and the degrees of freedom of the error.
    """
    if not len(cells.images):
        return 0.0, 0.5, 0.0
    # Imported here because importing scipy is slow, and few trainings need it.
    from scipy.special import stdtrit

    images, right = cells.images[cells.compared], cells.right[cells.compared]
    shares = right / images
    value, freedom = float(shares.min()), float(cells.images.min() - 1)
    low, high = _lowest_bounds(shares.tolist(), images.tolist())
    width = stdtrit(max(1.0, float(images.min() - 1)), (1 + INTERVAL_LEVEL) / 2)
    return value, float(max(value - low, high - value) / width), freedom


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
            _group(value, labels[is_member], chances[is_member], measures)
            for value, groups in attributes.values(title).items()
            if (is_member := np.isin(numbers, groups)).any()
        ]
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


def _group(name: str, labels: Numbers, chances: Probabilities, measures: Measures) -> Json:
    """Measure a group that has images."""
    right = int((chances.argmax(axis=1) == labels).sum())
    metrics = {metric: float(measure(labels, chances)[0]) for metric, measure in measures.items()}
    return {"name": printable(name), **_share(right, len(labels)), **metrics}


def _share(right: int, images: int) -> Json:
    low, high = share_bounds(right / images, images, RATE / 2)
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
    worst = min(large, key=itemgetter("accuracy"))
    best = max((group for group in large if group is not worst), key=itemgetter("accuracy"))
    return {
        "value": best["accuracy"] - worst["accuracy"],
        "low": max(0.0, *(low for low, _ in ends)),
        "high": min(1.0, max(high for _, high in ends)),
        "best": best["name"],
        "worst": worst["name"],
    }


def _cell_rows(cells: Cells, attributes: Attributes, classes: Sequence[str]) -> list[Json]:
    """Describe the cells, those with the lowest accuracy first, and of these the largest."""
    rows = [
        {
            "class": classes[number],
            "group": attributes.name(group),
            **_share(right, images),
        }
        for number, group, images, right in zip(*(each.tolist() for each in cells), strict=True)
    ]
    return sorted(rows, key=lambda row: (row["accuracy"], -row["images"]))


def _worst(cells: Sequence[Json]) -> Json | None:
    """Return the first cell with enough images, with an interval of the lowest true accuracy."""
    large = [cell for cell in cells if not cell["is_small"]]
    if not large:
        return None
    low, high = _lowest_bounds(
        [cell["accuracy"] for cell in large], [cell["images"] for cell in large]
    )
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
