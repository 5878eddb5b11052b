"""Options of the verbs that continue an existing search."""

import argparse
from dataclasses import fields

from search.cli.options import count_or_auto
from search.journal.keeping import KEEP_HELP
from search.journal.store import own_path
from search.preflight.overrides import Overrides
from search.values.executors import EXECUTOR_HELP


def place_options(parser: argparse.ArgumentParser, before: str) -> None:
    """Add the options that say how and where to continue; `before` is the default in their help."""
    parser.add_argument(
        "--concurrency",
        type=count_or_auto,
        metavar="N",
        help=f"trainings at once, or auto (default: {before})",
    )
    parser.add_argument(
        "--hang-timeout",
        type=float,
        metavar="SECONDS",
        help=f"as of search.run (default: {before})",
    )
    parser.add_argument(
        "--address", metavar="ADDRESS", help=f"local, or a running Ray cluster (default: {before})"
    )
    parser.add_argument("--executor", metavar="NAME", help=f"{EXECUTOR_HELP} (default: {before})")
    parser.add_argument(
        "--tracking", metavar="URI", help=f"MLflow's tracking URI (default: {before})"
    )
    parser.add_argument(
        "--download",
        action="store_true",
        help="fetch the data set, and weights to begin with, if they are not there",
    )
    parser.add_argument(
        "--data-root",
        type=own_path,
        metavar="DIR",
        help=f"where the data lies now (default: {before})",
    )


def keep_option(parser: argparse.ArgumentParser) -> None:
    """Add --keep, for a verb that continues a search."""
    parser.add_argument("--keep", metavar="WHAT", help=f"{KEEP_HELP} (default: as before)")


def change_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --allow-change, with which the verb continues although `what` has changed."""
    parser.add_argument(
        "--allow-change", action="store_true", help=f"go on although {what} has changed"
    )


def overrides_of(args: argparse.Namespace) -> Overrides:
    """Collect the options of a verb that replace recorded values of the search."""
    names = [field.name for field in fields(Overrides) if hasattr(args, field.name)]
    values = {name: getattr(args, name) for name in names}
    return Overrides(**values | {"budget": tuple(values.get("budget", ()))})
