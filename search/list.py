"""python -m search.list: the searches that are kept in a place, the newest first."""

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from rich.table import Table
from rich.text import Text

from cluster.cli import Parser
from cluster.storage.bucket import AT_ONCE
from search.cli.options import HelpFormatter, place_option
from search.journal.overview import Overview, Overviews
from search.journal.result import moment
from search.journal.store import Storage, searches_in
from search.process.guard import guarded
from search.values.message import Remedy, Start
from search.values.wording import duration
from search.views.terminal import Terminal, say
from trainables.errors import printable

BEFORE_ALL = {"budget": "budget used", "gain": "gain small", "stopped": "stopped"}
"""The states, in words, of searches that ended before all their trials."""


def searches(place: Storage, known: Overviews | None = None) -> list[Overview]:
    """Return a line for each search that is kept there, the newest first, broken ones last.

    Args:
        place: of the searches.
        known: lines of it that were read before, for a caller that asks again.

    Raises:
        StorageError: the bucket refuses.
    """
    known, names = known or Overviews(place), searches_in(place)
    known.keep(names)
    if isinstance(place, Path):  # threads would wait for one another, not for a disk
        found = [known.of(name) for name in names]
    else:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(known.of, names))
    return sorted(found, key=lambda one: (-one.began_ms, one.name))


def table(found: Sequence[Overview]) -> Table:
    """Return a table with a row for each search."""
    made = Table(box=None, pad_edge=False)
    for title in ("search", "state", "trials", "best", "data", "begun (UTC)", "took"):
        is_number, may_wrap = title in ("trials", "took"), title in ("search", "data")
        made.add_column(
            title,
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=not may_wrap,
        )
    for one in found:
        if one.state == "broken":
            made.add_row(printable(one.name), "broken")
            continue
        cells = (
            one.name,
            _state(one),
            f"{one.counted}/{one.planned}",
            "" if one.best is None else f"{one.best:.4f} {one.metric}",
            one.data,
            moment(one.began_ms).removesuffix(" UTC"),
            duration(one.wall_s),
        )
        made.add_row(*(Text(printable(cell)) for cell in cells))
    return made


def _state(one: Overview) -> str:
    if one.state == "ended":
        return BEFORE_ALL.get(one.outcome, one.state)
    return "paused" if one.state == "interrupted" and one.is_paused else one.state


def command(args: argparse.Namespace) -> int:
    """Print the searches and return the exit code."""
    found = searches(args.storage)
    if args.json:
        print(json.dumps([asdict(one) for one in found]))
        return 0
    console = Terminal()
    if not found:
        start_one = Remedy("run", start=Start.ANYWHERE)
        say(console, f"no searches in '{args.storage}'. '{start_one}' starts one.")
        return 0
    console.print(table(found), markup=False)
    for one in found:
        if one.trouble:
            say(console, f"{one.name} is broken: {one.trouble}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, print, and return the exit code (`ExitCode`)."""
    parser = Parser(
        prog="python -m search.list", description=__doc__, formatter_class=HelpFormatter
    )
    place_option(parser)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON list, with an object for each search"
    )
    args = parser.parse_args(argv)
    return guarded(lambda: command(args))


if __name__ == "__main__":
    raise SystemExit(main())
