"""python -m search.sync NAME: write to MLflow what it missed of a search while it was away."""

import argparse
from collections.abc import Sequence

from cluster.cli import Parser, complain
from cluster.exit_codes import ExitCode
from cluster.secrets import redact
from search.cli.options import HelpFormatter, storage_option
from search.cli.prompt import search_of
from search.journal.journal import FILE_NAME, Tail
from search.journal.result import SearchResult
from search.process.guard import guarded
from search.process.versions import check_versions
from search.tracking.runs import Runs
from search.tracking.tracker import troubles
from search.tracking.uri import check_tracking, uri_of
from trainables.errors import counted


def command(args: argparse.Namespace) -> int:
    """Write everything in the journal that MLflow lacks to MLflow, and return the exit code."""
    home = search_of(args)
    result = SearchResult.read(home.opened())
    uri = uri_of(result, args.tracking)
    check_versions()
    check_tracking(uri)
    with home.lease():
        folder = home.opened(files=True)
        try:
            runs = Runs(uri, folder)
            runs.project(Tail(folder / FILE_NAME).new())
            runs.leave(result.current_sessions[-1].last_ms)
        except troubles() as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            return complain(
                RuntimeError(
                    f"MLflow did not take everything ({redact(reason)}). Try again later; "
                    f"{home}/{FILE_NAME} has it all."
                ),
                ExitCode.NOT_READY,
            )
    print(
        f"MLflow has all of {args.name}: {counted(len(result.trials), 'trial')}, "
        f"{counted(result.epochs_trained, 'epoch')} ({redact(uri)})"
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, write to MLflow, and return the exit code (see `ExitCode`)."""
    parser = Parser(
        prog="python -m search.sync", description=__doc__, formatter_class=HelpFormatter
    )
    storage_option(parser)
    parser.add_argument(
        "--tracking", metavar="URI", help="MLflow's tracking URI (default: the search's own)"
    )
    args = parser.parse_args(argv)
    return guarded(lambda: command(args))
