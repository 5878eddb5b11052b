"""python -m search.pause NAME: pause a search, as Ctrl-C where it runs would.

Each trial finishes its epoch, then the search's process ends; `search.resume` goes on from there,
and a selection's `search.select`.
"""

import argparse
from collections.abc import Sequence

from cluster.cli import Parser
from search.cli.parser import HelpFormatter
from search.journal.requests import PAUSE, DriverRequest
from search.operations.asking import asking_options, request_and_wait
from search.process.guard import guarded


def command(args: argparse.Namespace) -> int:
    """Send the request to the driver, print its answer, and return the exit code."""
    return request_and_wait(args, DriverRequest.now(PAUSE))


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, send the request, and return the exit code (see `ExitCode`)."""
    parser = Parser(
        prog="python -m search.pause", description=__doc__, formatter_class=HelpFormatter
    )
    asking_options(parser)
    args = parser.parse_args(argv)
    return guarded(lambda: command(args))
