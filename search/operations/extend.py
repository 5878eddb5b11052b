"""python -m search.extend NAME --trials +20 --budget +1h --concurrency 4: change a running search.

It goes on with more trials or fewer, with a larger or smaller budget, and with more or fewer trials
at once. Trials that were set aside because a budget was used up go on with a larger one.
"""

import argparse
from collections.abc import Sequence

from cluster.cli import Parser
from search.cli.parser import HelpFormatter
from search.design.budget import FORMS
from search.journal.requests import EXTEND, DriverRequest
from search.operations.asking import asking_options, request_and_wait
from search.process.guard import guarded


def parser() -> Parser:
    """Define the arguments of `python -m search.extend`."""
    parser = Parser(
        prog="python -m search.extend", description=__doc__, formatter_class=HelpFormatter
    )
    asking_options(parser)
    parser.add_argument(
        "--trials",
        default="",
        metavar="N",
        help="as many trials in all, or with + as many more; not fewer than have begun",
    )
    parser.add_argument(
        "--budget",
        action="append",
        default=[],
        metavar="LIMIT",
        help=f"a limit in place of all of its kind, or with + as much more of each: {FORMS}",
    )
    parser.add_argument(
        "--price", type=float, metavar="MONEY", help="what an hour of one device costs"
    )
    parser.add_argument(
        "--concurrency",
        type=int,
        metavar="N",
        help="trainings at once, as far as there is room for them",
    )
    return parser


def command(args: argparse.Namespace) -> int:
    """Send the request to the driver, print its answer, and return the exit code."""
    request = DriverRequest.now(
        EXTEND,
        trials=args.trials,
        budget=tuple(args.budget),
        price=args.price,
        concurrency=args.concurrency,
    )
    return request_and_wait(args, request)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, send the request, and return the exit code (see `ExitCode`)."""
    args = parser().parse_args(argv)
    return guarded(lambda: command(args))
