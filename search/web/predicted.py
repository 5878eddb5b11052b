"""The table of a model's predictions for a folder, read from a file of `search.predict`."""

import asyncio
import csv
import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from search.views.csv_output import plain_text
from search.web.listing import MAX_TEXT, Cell, Column, Listed, Query, Row, listed
from trainables.errors import DataError, printable

MAX_ROWS = 5_000
"""Maximum number of predictions in a table; the least confident ones are shown."""
MAX_KEPT = 8
"""Maximum number of tables that are cached in memory."""
FILE, CLASS, PROBABILITY, MARGIN = "file", "class", "probability", "margin"
"""Titles of the columns that have a special format."""
HINTS = {
    PROBABILITY: "of the predicted class, according to the model",
    MARGIN: "the probability minus that of the next class",
}
NUMBER = "number"
"""Key of a cell that no column shows: it has the number of the row in the file, from 0."""
Numbered = tuple[int, list[str]]
"""The number of a row in the file, from 0, and its cells."""


@dataclass(frozen=True)
class Answers:
    """The predictions for the files of a folder."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    """At most `MAX_ROWS` rows, the least confident first."""
    paths: Mapping[int, str]
    """The image file of each row, by the row's number; empty without a column of files."""
    counts: Mapping[str, int]
    """Maps each predicted class to the number of its files. If the predictions are not classes, the
    only key is "".
    """

    @classmethod
    def read(cls, path: Path, folder: str) -> "Answers":
        """Read a CSV file of predictions.

        Args:
            path: the file.
            folder: the folder of the images; names of files are shown relative to it.

        Raises:
            DataError: the file is not a CSV table.
        """
        counts = Counter[str]()
        try:
            with path.open(encoding="utf-8", newline="") as stream:
                reader = csv.reader(stream)
                titles = _plain(next(reader, []))
                numbered = _counted(map(_plain, reader), titles, counts)
                least_sure = heapq.nsmallest(MAX_ROWS, numbered, key=_sureness(titles))
        except (ValueError, csv.Error) as error:
            raise DataError(
                f"the predictions in '{path}' cannot be shown as a table ({error})."
            ) from error
        columns = [_column(titles, index, least_sure) for index in range(len(titles))]
        rows = [
            _row(columns, number, cells, f"{folder.rstrip('/')}/") for number, cells in least_sure
        ]
        at = titles.index(FILE) if FILE in titles else None
        paths = {} if at is None else {number: cells[at] for number, cells in least_sure}
        return cls(columns, rows, paths, counts)

    @property
    def count(self) -> int:
        """Number of files with a prediction."""
        return sum(self.counts.values())

    @property
    def classes(self) -> list[tuple[str, int]]:
        """The classes with their numbers of files, the most frequent first.

        The list is empty if the predictions are not classes.
        """
        has_classes = any(column.key == CLASS for column in self.columns)
        ordered = sorted(
            self.counts.items(), key=lambda class_count: (-class_count[1], class_count[0])
        )
        return ordered if has_classes else []

    @property
    def is_ranked(self) -> bool:
        """True if the table has a column of probabilities."""
        return any(column.key == PROBABILITY for column in self.columns)

    def table(self, query: Query) -> Listed:
        """Build the requested page of the table."""
        listing = listed(self.rows, self.columns, query)
        return replace(
            listing, states={name: listing.states[name] for name in sorted(listing.states)}
        )


def _plain(cells: Sequence[str]) -> list[str]:
    return list(map(plain_text, cells))


def _counted(
    reader: Iterable[list[str]], titles: Sequence[str], counts: Counter[str]
) -> Iterator[Numbered]:
    """Yield each row with its number, and add its class to `counts`; skip incomplete rows."""
    at = titles.index(CLASS) if CLASS in titles else None
    for number, cells in enumerate(reader):
        if len(cells) == len(titles):
            counts["" if at is None else _class(cells[at])] += 1
            yield number, cells


def _sureness(titles: Sequence[str]) -> Callable[[Numbered], float]:
    """Return the sort key for rows: the probability of the predicted class, or 0 without one."""
    if PROBABILITY not in titles:
        return lambda row: 0.0
    at = titles.index(PROBABILITY)
    return lambda row: _number(row[1][at]) or 0.0


def _column(titles: Sequence[str], index: int, numbered: Sequence[Numbered]) -> Column:
    title = titles[index]
    is_known = title in (FILE, CLASS, PROBABILITY, MARGIN) and titles.index(title) == index
    is_number = title not in (FILE, CLASS) and all(
        _number(cells[index]) is not None for _, cells in numbered
    )
    key = title if is_known else f"column{index}"
    return Column(key, title, is_number=is_number, hint=HINTS.get(title, ""))


def _row(columns: Sequence[Column], number: int, cells: Sequence[str], folder: str) -> Row:
    row_cells, state = {NUMBER: Cell("", number)}, ""
    for column, cell in zip(columns, cells, strict=True):
        text = cell.removeprefix(folder) if column.key == FILE else cell
        state = _class(text) if column.key == CLASS else state
        row_cells[column.key] = _cell(column, text)
    return Row("", state, row_cells)


def _class(text: str) -> str:
    """Shorten the name of a class for use in a URL, and remove control characters."""
    return printable(text)[:MAX_TEXT]


def _cell(column: Column, text: str) -> Cell:
    value = _number(text) if column.is_number else None
    if value is None:
        return Cell(text, text or None)
    if column.key in (PROBABILITY, MARGIN):
        return Cell(f"{100 * value:.1f} %", value)
    return Cell(f"{value:.4f}" if "." in text else text, value)


def _number(text: str) -> float | None:
    """Parse a finite number; return None for any other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


class PredictionCache:
    """Cache of the tables of the most recently used files of predictions."""

    def __init__(self) -> None:
        self._answers: dict[Path, Answers] = {}
        self._lock = asyncio.Lock()

    async def of(self, path: Path, folder: str) -> Answers:
        """Read a file of predictions, or return them from the cache; the file must not change.

        Args:
            path: the CSV file.
            folder: the folder of the images, as in `Answers.read`.
        """
        async with self._lock:
            answers = self._answers.pop(path, None)
            if answers is None:
                answers = await run_in_threadpool(Answers.read, path, folder)
            self._answers[path] = answers
            if len(self._answers) > MAX_KEPT:
                del self._answers[next(iter(self._answers))]
            return answers
