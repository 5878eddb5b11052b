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
from search.facts.overview import Overview, Overviews
from search.journal.result import moment
from search.journal.store import Storage, searches_in
from search.process.guard import guarded
from search.values.message import Remedy, Start
from search.values.wording import duration
from search.views.terminal import Terminal, say
from trainables.errors import printable

BEFORE_ALL = {"budget": "budget used", "gain": "gain small", "stopped": "stopped"}
"""Words for the outcomes of searches that ended before all trials were trained."""


def searches(place: Storage, cache: Overviews | None = None) -> list[Overview]:
    """Read an overview of each search in a place, the newest first, broken ones last.

    Args:
        place: where the searches are stored.
        cache: keeps the overviews between calls, for a caller that reads them repeatedly; None to
            read all.
    """
    cache, names = cache or Overviews(place), searches_in(place)
    cache.keep(names)
    if isinstance(place, Path):  # parsing is CPU-bound, so threads would not help
        overviews = [cache.of(name) for name in names]
    else:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            overviews = list(pool.map(cache.of, names))
    return sorted(overviews, key=lambda overview: (-overview.began_ms, overview.name))


def table(overviews: Sequence[Overview]) -> Table:
    """Build a table with one row per search, in the given order."""
    table = Table(box=None, pad_edge=False)
    for title in ("search", "state", "trials", "best", "data", "begun (UTC)", "took"):
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
            _state(overview),
            f"{overview.counted}/{overview.planned}",
            "" if overview.best is None else f"{overview.best:.4f} {overview.metric}",
            overview.data,
            moment(overview.began_ms).removesuffix(" UTC"),
            duration(overview.wall_s),
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _state(overview: Overview) -> str:
    if overview.state == "ended":
        return BEFORE_ALL.get(overview.outcome, overview.state)
    return "paused" if overview.state == "interrupted" and overview.is_paused else overview.state


def command(args: argparse.Namespace) -> int:
    """Print the table of searches, or JSON with --json, and return the exit code."""
    overviews = searches(args.storage)
    if args.json:
        print(json.dumps([asdict(overview) for overview in overviews]))
        return 0
    console = Terminal()
    if not overviews:
        start_one = Remedy("run", start=Start.ANYWHERE)
        say(console, f"no searches in '{args.storage}'. '{start_one}' starts one.")
        return 0
    console.print(table(overviews), markup=False)
    for overview in overviews:
        if overview.trouble:
            say(console, f"{overview.name} is broken: {overview.trouble}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, print the searches, and return the exit code (see `ExitCode`)."""
    parser = Parser(
        prog="python -m search.list", description=__doc__, formatter_class=HelpFormatter
    )
    place_option(parser)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON list, with an object for each search"
    )
    args = parser.parse_args(argv)
    return guarded(lambda: command(args))
