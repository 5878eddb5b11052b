"""python -m search.stop NAME [TRIAL]: stop one trial, or the whole search, after the epoch.

A trial that trains ends after its epoch, any other at once. A search that is stopped begins no
further trial; what it has trained is evaluated, and the best is tested. `search.resume` goes on
from there. Its driver is asked, whose answer is printed; while none runs, the next one is.
"""

import argparse
from collections.abc import Sequence

from cluster.cli import Parser
from search.cli.parser import HelpFormatter
from search.journal.requests import STOP, DriverRequest
from search.operations.asking import asking_options, request_and_wait
from search.process.guard import guarded


def command(args: argparse.Namespace) -> int:
    """Send the request to the driver, print its answer, and return the exit code."""
    return request_and_wait(args, DriverRequest.now(STOP, trial=args.trial or ""))


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, send the request, and return the exit code (see `ExitCode`)."""
    parser = Parser(
        prog="python -m search.stop", description=__doc__, formatter_class=HelpFormatter
    )
    asking_options(parser)
    parser.add_argument(
        "trial", nargs="?", metavar="TRIAL", help="the trial, such as t0001; without it all of them"
    )
    args = parser.parse_args(argv)
    return guarded(lambda: command(args))
