"""A model's answers to the files of a folder, as `search.predict` wrote them, as a table."""

import asyncio
import csv
import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from search.cli.csv_output import plain_text
from search.views.web.listing import MAX_TEXT, Cell, Column, Listed, Query, Row, listed
from trainables.errors import DataError, printable

MAX_ROWS = 5_000
"""The most answers that a table has: the least sure ones."""
MAX_KEPT = 8
"""The most tables that are kept in memory."""
FILE, CLASS, PROBABILITY, MARGIN = "file", "class", "probability", "margin"
"""The columns of which more is known than their titles."""
HINTS = {
    PROBABILITY: "of the class, as the model says",
    MARGIN: "the probability less that of the next class",
}
NUMBER = "number"
"""The cell of a row that stands in no column: its number in the file, of which the first is 0."""
Numbered = tuple[int, list[str]]


@dataclass(frozen=True)
class Answers:
    """The answers to the files of a folder."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    """`MAX_ROWS` at most, the least sure first."""
    paths: Mapping[int, str]
    """The files of these rows, by the row's number; none where the file is not told."""
    counts: Mapping[str, int]
    """The number of files of each class; all together where the answers are no classes."""

    @classmethod
    def read(cls, path: Path, folder: str) -> "Answers":
        """Return what a file holds.

        Args:
            path: the file.
            folder: below which the names of files are shown.

        Raises:
            OSError: it cannot be read.
            DataError: it is no table.
        """
        counts = Counter[str]()
        try:
            with path.open(encoding="utf-8", newline="") as stream:
                reader = csv.reader(stream)
                titles = _plain(next(reader, []))
                found = _counted(map(_plain, reader), titles, counts)
                kept = heapq.nsmallest(MAX_ROWS, found, key=_sureness(titles))
        except (ValueError, csv.Error) as error:
            raise DataError(f"the answers cannot be shown as a table ({error}).") from error
        columns = [_column(titles, index, kept) for index in range(len(titles))]
        rows = [_row(columns, number, cells, f"{folder.rstrip('/')}/") for number, cells in kept]
        at = titles.index(FILE) if FILE in titles else None
        paths = {} if at is None else {number: cells[at] for number, cells in kept}
        return cls(columns, rows, paths, counts)

    @property
    def count(self) -> int:
        """The number of files that were answered."""
        return sum(self.counts.values())

    @property
    def classes(self) -> list[tuple[str, int]]:
        """The classes and the numbers of their files, the most first; empty without classes."""
        has_classes = any(column.key == CLASS for column in self.columns)
        ordered = sorted(self.counts.items(), key=lambda one: (-one[1], one[0]))
        return ordered if has_classes else []

    @property
    def is_ranked(self) -> bool:
        """True if answers tell how sure they are."""
        return any(column.key == PROBABILITY for column in self.columns)

    def table(self, query: Query) -> Listed:
        """Return the page of the table that is asked for."""
        made = listed(self.rows, self.columns, query)
        return replace(made, states={name: made.states[name] for name in sorted(made.states)})


def _plain(cells: Sequence[str]) -> list[str]:
    return list(map(plain_text, cells))


def _counted(
    reader: Iterable[list[str]], titles: Sequence[str], counts: Counter[str]
) -> Iterator[Numbered]:
    """Yield each row with its number, counting its class; what is no whole row is left out."""
    at = titles.index(CLASS) if CLASS in titles else None
    for number, cells in enumerate(reader):
        if len(cells) == len(titles):
            counts["" if at is None else _class(cells[at])] += 1
            yield number, cells


def _sureness(titles: Sequence[str]) -> Callable[[Numbered], float]:
    """Return what tells how sure an answer is: its probability; the same for all without one."""
    if PROBABILITY not in titles:
        return lambda row: 0.0
    at = titles.index(PROBABILITY)
    return lambda row: _number(row[1][at]) or 0.0


def _column(titles: Sequence[str], index: int, kept: Sequence[Numbered]) -> Column:
    title = titles[index]
    is_known = title in (FILE, CLASS, PROBABILITY, MARGIN) and titles.index(title) == index
    is_number = title not in (FILE, CLASS) and all(
        _number(cells[index]) is not None for _, cells in kept
    )
    key = title if is_known else f"column{index}"
    return Column(key, title, is_number=is_number, hint=HINTS.get(title, ""))


def _row(columns: Sequence[Column], number: int, cells: Sequence[str], folder: str) -> Row:
    found, state = {NUMBER: Cell("", number)}, ""
    for column, cell in zip(columns, cells, strict=True):
        text = cell.removeprefix(folder) if column.key == FILE else cell
        state = _class(text) if column.key == CLASS else state
        found[column.key] = _cell(column, text)
    return Row("", state, found)


def _class(text: str) -> str:
    """Return the name of a class as it stands on a page and in an address."""
    return printable(text)[:MAX_TEXT]


def _cell(column: Column, text: str) -> Cell:
    value = _number(text) if column.is_number else None
    if value is None:
        return Cell(text, text or None)
    if column.key in (PROBABILITY, MARGIN):
        return Cell(f"{100 * value:.1f} %", value)
    return Cell(f"{value:.4f}" if "." in text else text, value)


def _number(text: str) -> float | None:
    """Return the number that a cell is; None if it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


class Known:
    """The answers that pages have shown lately."""

    def __init__(self) -> None:
        self._kept: dict[Path, Answers] = {}
        self._lock = asyncio.Lock()

    async def of(self, path: Path, folder: str) -> Answers:
        """Return what a file holds, which never changes; see `Answers.read`.

        Raises:
            OSError, DataError: as there.
        """
        async with self._lock:
            found = self._kept.pop(path, None)
            if found is None:
                found = await run_in_threadpool(Answers.read, path, folder)
            self._kept[path] = found
            if len(self._kept) > MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            return found
