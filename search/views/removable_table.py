"""The table of the checkpoints that can be removed."""

from collections.abc import Iterable, Sequence

from rich.table import Table

from search.journal.keeping import Removable, totals_by_kind
from trainables.machine import size_text


def removable_rows(removable: Iterable[Removable]) -> list[tuple[str, int, str, str]]:
    """Build a row for each kind of trial: (title, number of trials, size, consequence).

    The consequence is what will no longer be possible.
    """
    return [
        (kind.title, trials, size_text(size), kind.lost)
        for kind, (trials, size) in totals_by_kind(removable).items()
    ]


def removable_table(removable: Sequence[Removable]) -> Table:
    """Build a table of the checkpoints to remove, with a row for each kind of trial."""
    table = Table(box=None, pad_edge=False)
    for title in ("checkpoints of", "trials", "bytes", "no longer possible"):
        table.add_column(title, justify="right" if title in ("trials", "bytes") else "left")
    for kind, trials, size, lost in removable_rows(removable):
        table.add_row(kind, str(trials), size, lost)
    return table
