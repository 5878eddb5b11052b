"""The table of all searches in a storage."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from search.facts.overview import Overview
from search.journal.result import moment
from search.values.wording import duration
from trainables.errors import printable

BEFORE_ALL = {"budget": "budget used", "gain": "ended early", "stopped": "stopped"}
"""Texts for the outcomes of searches that ended before all trials were trained."""


def overview_table(overviews: Sequence[Overview]) -> Table:
    """Build a table with one row per search, in the given order."""
    table = Table(box=None, pad_edge=False)
    for title in ("search", "state", "trials", "best", "data", "started (UTC)", "took"):
        is_number, may_wrap = title in ("trials", "took"), title in ("search", "data")
        table.add_column(
            title,
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=not may_wrap,
        )
    for overview in overviews:
        if overview.state == "broken":
            table.add_row(printable(overview.name), "broken")
            continue
        cells = (
            overview.name,
            state_word(overview),
            f"{overview.counted}/{overview.planned}",
            "" if overview.best is None else f"{overview.best:.4f} {overview.metric}",
            overview.data,
            moment(overview.began_ms).removesuffix(" UTC"),
            duration(overview.wall_s),
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def state_word(overview: Overview) -> str:
    """Describe the state of a search in one or two words, such as `paused` or `budget used`."""
    if overview.state == "ended":
        return BEFORE_ALL.get(overview.outcome, overview.state)
    return "paused" if overview.state == "interrupted" and overview.is_paused else overview.state
