"""python -m search.clean NAME: remove checkpoints of a search that has come to its end.

Says first what would go, how much room that makes, and what is not possible any more without it.
What was found, the page and MLflow stay as they are.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence

from rich.table import Table

from cluster.cli import Parser
from search.cli.options import json_option, storage_option
from search.cli.parser import HelpFormatter
from search.cli.prompt import can_ask, confirm, search_of
from search.journal.keeping import (
    ANSWER,
    CLEANED,
    NEEDED,
    Removable,
    find_removable,
    freed_event,
    remove,
    totals_by_kind,
)
from search.journal.lease import LeaseHeld
from search.journal.naming import refuse_cut_off
from search.journal.result import SearchResult
from search.journal.store import Home, Storage
from search.process.guard import guarded
from search.values.wording import cut_off_text
from search.views.terminal import Terminal, say
from trainables.errors import ConfigError, unknown
from trainables.memory import size_text


def command(args: argparse.Namespace) -> int:
    """Print the checkpoints that can be removed, ask, and remove them; return the exit code.

    Raises:
        ConfigError: the value of --keep is unknown.
        LeaseHeld: a driver runs the search.
    """
    if args.keep not in CLEANED:
        raise ConfigError(unknown("value of --keep", args.keep, CLEANED))
    home = search_of(args)
    result = SearchResult.read(home.opened())
    if holder := home.holder():
        raise LeaseHeld(
            f"the search '{args.name}' is being run by {holder}. Wait for its end, or stop it first"
        )
    removable = removable_of(result, home, args.storage, args.keep)
    size = size_of(removable)
    console = Terminal(stderr=args.json)
    if not removable:
        say(console, f"{args.name}: there is nothing to remove with --keep {args.keep}")
    else:
        say(console, f"{args.name}: {size_text(size)} of checkpoints, with --keep {args.keep}")
        console.print(table(removable))
    is_done = (
        bool(removable) and not args.dry_run and (args.yes or confirm_removal(args.name, size))
    )
    if is_done:
        size = clean_search(home, args.storage, args.keep, lambda text: say(console, text))
        say(console, f"{size_text(size)} of checkpoints were removed")
    elif removable:
        say(console, "nothing was removed")
    if args.json:
        print(json.dumps(as_json(removable, size if is_done else 0)))
    return 0


def removable_of(result: SearchResult, home: Home, storage: Storage, keep: str) -> list[Removable]:
    """Find the checkpoints of a search that can be removed.

    Args:
        result: the search.
        home: its place in the storage.
        storage: the storage, for messages.
        keep: the value of --keep (`CLEANED`).

    Raises:
        Refused: the search, or its selection, was cut off.
    """
    refuse_cut_off(result, storage)
    return find_removable(result, home, keep)


def size_of(removable: Iterable[Removable]) -> int:
    """Sum up the sizes of checkpoints, in bytes."""
    return sum(trial.size for trial in removable)


def rows_of(removable: Iterable[Removable]) -> list[tuple[str, int, str, str]]:
    """Build a row for each kind of trial: (title, number of trials, size, consequence)."""
    return [
        (kind.title, trials, size_text(size), kind.lost)
        for kind, (trials, size) in totals_by_kind(removable).items()
    ]


def table(removable: Sequence[Removable]) -> Table:
    """Build a table of the checkpoints to remove, with a row for each kind of trial."""
    table = Table(box=None, pad_edge=False)
    for title in ("checkpoints of", "trials", "bytes", "not possible any more"):
        table.add_column(title, justify="right" if title in ("trials", "bytes") else "left")
    for kind, trials, size, lost in rows_of(removable):
        table.add_row(kind, str(trials), size, lost)
    return table


def confirm_removal(name: str, size: int) -> bool:
    """Ask the user to confirm the removal of `size` bytes; True for yes.

    Raises:
        ConfigError: the command does not run at a terminal.
    """
    if not can_ask():
        raise ConfigError("there is no terminal to ask at. Use --yes, or --dry-run to look only.")
    return confirm(f"Remove {size_text(size)} of checkpoints of '{name}'?", yes=False)


def clean_search(home: Home, storage: Storage, keep: str, note: Callable[[str], None]) -> int:
    """Remove the checkpoints that `keep` does not need, and return their size in bytes.

    The removal is first recorded in the journal, where a resume sees it. If the process is killed
    in between, the next call removes the rest.

    Args:
        home: the search's place in the storage.
        storage: the storage, for messages.
        keep: the value of --keep (`CLEANED`).
        note: receives a line if the journal's last line was torn.
    """
    with home.lease() as lease:
        journal, events = home.journal(new=False)
        journal.other_driver = lease.other_driver
        if journal.cut_off:
            note(cut_off_text(journal.cut_off))
        try:
            result = SearchResult.of(events, home.folder)
            removable = removable_of(result, home, storage, keep)
            event = freed_event(removable, keep)
            journal.append(event)
            remove(home, removable)
        finally:
            journal.close()
    return event.bytes


def as_json(removable: Sequence[Removable], size: int) -> dict[str, object]:
    """Describe the removable checkpoints and the removed bytes as JSON-compatible values."""
    kinds = {
        kind.title: {"trials": trials, "bytes": bytes_}
        for kind, (trials, bytes_) in totals_by_kind(removable).items()
    }
    return {"removable": kinds, "removed_bytes": size}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, remove checkpoints, and return the exit code (see `ExitCode`)."""
    parser = Parser(
        prog="python -m search.clean", description=__doc__, formatter_class=HelpFormatter
    )
    storage_option(parser)
    parser.add_argument(
        "--keep",
        default=NEEDED,
        metavar="WHAT",
        help=f"{NEEDED}: those that a resume, a refinement or another search goes on from; "
        f"{ANSWER}: that of the best or chosen network, and the best one of each candidate of a "
        f"selection (default: {NEEDED})",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and end")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    json_option(parser)
    args = parser.parse_args(argv)
    return guarded(lambda: command(args))
