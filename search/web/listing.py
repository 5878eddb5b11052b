"""Tables that are sorted, filtered and divided into pages according to URL parameters."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

PAGE = 50
"""Number of rows on a page."""
MAX_TEXT, MAX_DIGITS = 200, 7
"""URL parameters are cut to `MAX_TEXT` characters. A page number with `MAX_DIGITS` digits or more
is ignored.
"""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    key: str
    title: str
    is_number: bool = False
    """True for numbers, which are right-aligned; a first click sorts them in descending order."""
    hint: str = ""
    """An explanation of the column."""
    is_sorted: bool = True
    """False if the table cannot be sorted by the column, for example because it shows pictures."""


@dataclass(frozen=True)
class Cell:
    """A cell of a row."""

    text: str = ""
    value: float | str | None = None
    """The value by which rows are sorted; None for an empty cell."""


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    name: str
    state: str
    """The state by which rows can be filtered, such as `running`."""
    cells: Mapping[str, Cell]
    """The cells by the key of their column."""

    @cached_property
    def words(self) -> str:
        """All texts of the row in lower case, in which the filter searches."""
        return " ".join((self.name, *(cell.text for cell in self.cells.values()))).lower()

    def rank(self, key: str) -> tuple[bool, float, str]:
        """Return the key by which the row is sorted in a column; numbers come before texts."""
        value = self.cells[key].value if key in self.cells else None
        return (False, value, "") if isinstance(value, int | float) else (True, 0.0, value or "")

    def has(self, key: str) -> bool:
        """True if the row has a value in the column with this key."""
        return key in self.cells and self.cells[key].value is not None


@dataclass(frozen=True)
class Query:
    """The sorting, filter, page and columns of a table, from URL parameters."""

    sort: str = ""
    """Key of the column to sort by; empty for the default order."""
    is_down: bool = False
    """True for descending order."""
    text: str = ""
    """The words of the filter; a row must contain all of them."""
    state: str = ""
    """The state that rows must have; empty for any."""
    columns: tuple[str, ...] = ()
    """Keys of the visible columns; empty for the default ones."""
    page: int = 1

    @classmethod
    def of(cls, params: QueryParams) -> "Query":
        """Parse URL parameters. Unknown ones are ignored, and long values are cut."""
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
        """Return the URL query string of this query after changes of its fields.

        The query string is for the first page, unless `changes` sets another `page`.
        """
        changed = replace(self, **({"page": 1} | changes))  # type: ignore[arg-type]
        params = {
            "sort": changed.sort,
            "down": "1" if changed.is_down else "",
            "q": changed.text,
            "state": changed.state,
            "cols": list(changed.columns),
            "page": changed.page if changed.page > 1 else "",
        }
        return "?" + urlencode({name: value for name, value in params.items() if value}, doseq=True)


@dataclass(frozen=True)
class Listed:
    """One page of a table, with the data for the table's controls."""

    query: Query
    columns: Sequence[Column]
    """The visible columns."""
    choice: Sequence[Column]
    """All columns, whether visible or not."""
    rows: Sequence[Row]
    """The rows on this page."""
    count: int
    """Number of rows on all pages, after filtering."""
    of: int
    """Number of rows before filtering."""
    states: Mapping[str, int] = field(default_factory=dict)
    """Number of rows with each state, before filtering."""

    @property
    def pages(self) -> int:
        """The number of pages, at least one."""
        return max(1, -(-self.count // PAGE))

    @property
    def page(self) -> int:
        """The number of this page, from 1."""
        return min(max(1, self.query.page), self.pages)

    def order(self, column: Column) -> str:
        """Return the value of `aria-sort` for a column; empty if the table is not sorted by it."""
        if column.key != self.query.sort:
            return ""
        return "descending" if self.query.is_down else "ascending"

    def turned(self, column: Column) -> str:
        """Return the URL query string that sorts the table by a column.

        If the table is already sorted by this column, the order is reversed.
        """
        order = self.order(column)
        down = order == "ascending" if order else column.is_number
        return self.query.address(sort=column.key, is_down=down)


def listed(
    rows: Sequence[Row], columns: Sequence[Column], query: Query, usual: Sequence[str] = ()
) -> Listed:
    """Filter and sort the rows of a table, and return the requested page.

    Args:
        rows: all rows, in their default order.
        columns: all columns; the first is always visible.
        query: the requested filter, order, page and columns.
        usual: the keys of the columns that are visible by default; empty for all.
    """
    states, words = Counter(row.state for row in rows), query.text.lower().split()
    matching = [
        row
        for row in rows
        if query.state in ("", row.state) and all(word in row.words for word in words)
    ]
    keys = {column.key for column in columns}
    if query.sort in keys:  # rows without a value come last in both directions
        having = [row for row in matching if row.has(query.sort)]
        having.sort(key=lambda row: row.rank(query.sort), reverse=query.is_down)
        matching = having + [row for row in matching if not row.has(query.sort)]
    visible_keys = keys.intersection(query.columns) or set(usual) or keys
    visible = [column for column in columns if column is columns[0] or column.key in visible_keys]
    listing = Listed(query, visible, columns, matching, len(matching), len(rows), states)
    first = (listing.page - 1) * PAGE
    return replace(listing, rows=matching[first : first + PAGE])
