"""Tables that are sorted, filtered, paged and given columns by the parameters of an address."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

PAGE = 50
"""The number of rows on a page."""
MAX_TEXT, MAX_DIGITS = 200, 7


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    key: str
    title: str
    is_number: bool = False
    """True of figures, which stand right and come the highest first when one sorts by them."""
    hint: str = ""
    is_sorted: bool = True
    """False of a picture, by which nothing can be sorted."""


@dataclass(frozen=True)
class Cell:
    """A row's part in a column: its text, and the value that it is sorted by, if it has one."""

    text: str = ""
    value: float | str | None = None


@dataclass(frozen=True)
class Row:
    """A row: its name, the state that it may be filtered by, and its cells by column."""

    name: str
    state: str
    cells: Mapping[str, Cell]

    @cached_property
    def words(self) -> str:
        """All its texts in lower case."""
        return " ".join((self.name, *(cell.text for cell in self.cells.values()))).lower()

    def rank(self, key: str) -> tuple[bool, float, str]:
        """Return by what it is sorted in a column: numbers before texts."""
        value = self.cells[key].value if key in self.cells else None
        return (False, value, "") if isinstance(value, int | float) else (True, 0.0, value or "")

    def has(self, key: str) -> bool:
        """Return whether it has something in a column to be sorted by."""
        return key in self.cells and self.cells[key].value is not None


@dataclass(frozen=True)
class Query:
    """The wishes that an address has of a table."""

    sort: str = ""
    """The key of a column; empty leaves the rows in their own order."""
    is_down: bool = False
    text: str = ""
    """Words that all have to stand in a row."""
    state: str = ""
    columns: tuple[str, ...] = ()
    """The keys of the columns that are wanted; none stands for the usual ones."""
    page: int = 1

    @classmethod
    def of(cls, params: QueryParams) -> "Query":
        """Return what the parameters of an address ask; what is none of that is left out."""
        page = params.get("page", "")
        return cls(
            sort=params.get("sort", "")[:MAX_TEXT],
            is_down=params.get("down", "") == "1",
            text=params.get("q", "")[:MAX_TEXT],
            state=params.get("state", "")[:MAX_TEXT],
            columns=tuple(name[:MAX_TEXT] for name in params.getlist("cols")[:MAX_TEXT]),
            page=int(page) if page.isascii() and page.isdigit() and len(page) < MAX_DIGITS else 1,
        )

    def address(self, **changes: str | int | bool) -> str:
        """Return the address, without its path, that asks the same but for these changes."""
        asked = replace(self, **({"page": 1} | changes))  # type: ignore[arg-type]
        told = {
            "sort": asked.sort,
            "down": "1" if asked.is_down else "",
            "q": asked.text,
            "state": asked.state,
            "cols": list(asked.columns),
            "page": asked.page if asked.page > 1 else "",
        }
        return "?" + urlencode({name: value for name, value in told.items() if value}, doseq=True)


@dataclass(frozen=True)
class Listed:
    """A page of a table."""

    query: Query
    columns: Sequence[Column]
    """Those that are shown."""
    choice: Sequence[Column]
    """All that there are."""
    rows: Sequence[Row]
    count: int
    """The number of rows on all pages."""
    of: int
    """The number of rows before any is filtered out."""
    states: Mapping[str, int] = field(default_factory=dict)
    """The number of rows of each state."""

    @property
    def pages(self) -> int:
        """The number of pages, at least one."""
        return max(1, -(-self.count // PAGE))

    @property
    def page(self) -> int:
        """The number of this one."""
        return min(max(1, self.query.page), self.pages)

    def order(self, column: Column) -> str:
        """Return how the rows are sorted by a column, as `aria-sort`; empty if they are not."""
        if column.key != self.query.sort:
            return ""
        return "descending" if self.query.is_down else "ascending"

    def turned(self, column: Column) -> str:
        """Return the address that sorts by a column; the other way round if that is so already."""
        order = self.order(column)
        down = order == "ascending" if order else column.is_number
        return self.query.address(sort=column.key, is_down=down)


def listed(
    rows: Sequence[Row], columns: Sequence[Column], query: Query, usual: Sequence[str] = ()
) -> Listed:
    """Return the page of a table that is asked for.

    Args:
        rows: all rows, in the order that they have unless another is asked for.
        columns: all columns; the first is always shown.
        query: what is asked for.
        usual: the keys of the columns that are shown unless others are asked for.
    """
    states, words = Counter(row.state for row in rows), query.text.lower().split()
    found = [
        row
        for row in rows
        if query.state in ("", row.state) and all(word in row.words for word in words)
    ]
    known = {column.key for column in columns}
    if query.sort in known:  # a row that has nothing there comes last, either way
        having = [row for row in found if row.has(query.sort)]
        having.sort(key=lambda row: row.rank(query.sort), reverse=query.is_down)
        found = having + [row for row in found if not row.has(query.sort)]
    wanted = known.intersection(query.columns) or set(usual) or known
    shown = [one for one in columns if one is columns[0] or one.key in wanted]
    made = Listed(query, shown, columns, found, len(found), len(rows), states)
    first = (made.page - 1) * PAGE
    return replace(made, rows=found[first : first + PAGE])
