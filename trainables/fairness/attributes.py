"""The attributes of images, which divide them into groups: a CSV file (`data.groups`).

Its first column is `image`, the path of an image in the data set's folder with `/` between folders.
Each further column is an attribute, such as `sex` or `camera`, with a value for every image.
"""

import csv
import io
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.disk import read_regular
from trainables.errors import DataError, counted, printable

IMAGE = "image"
"""The title of the first column."""
MAX_VALUES = 50
"""The maximum number of values of an attribute; a group of each would have too few images."""
NO_GROUP = -1
"""The number of the group of an image without attributes, such as one that was recorded later."""


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
