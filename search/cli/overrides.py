"""Options that say where a known search goes on, and the experiment with these applied."""

import argparse
from dataclasses import replace
from typing import Any

from search.cli.options import count_or_auto
from search.design.experiment import PLACE, Experiment
from search.journal.keeping import KEEP_HELP
from search.journal.result import SearchResult
from search.journal.store import own_path
from search.tracking.uri import uri_of
from search.values.executors import AUTO_COUNT, EXECUTOR_HELP


def place_options(parser: argparse.ArgumentParser, before: str) -> None:
    """Add the options; `before` says what holds if they are left out."""
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
    """Add --keep, of a verb that goes on with a search."""
    parser.add_argument("--keep", metavar="WHAT", help=f"{KEEP_HELP} (default: as before)")


def change_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --allow-change; `what` must be as it was without it."""
    parser.add_argument(
        "--allow-change", action="store_true", help=f"go on although {what} has changed"
    )


def apply_overrides(
    experiment: Experiment, args: argparse.Namespace, result: SearchResult
) -> Experiment:
    """Return the experiment with these arguments applied, as far as they are given."""
    base = experiment.base
    if args.data_root is not None:
        base = base.override({"data.root": str(args.data_root.absolute())})
    given: dict[str, Any] = {
        name: value for name in PLACE if (value := getattr(args, name, None)) is not None
    }
    given |= {"concurrency": None} if args.concurrency == AUTO_COUNT else {}
    given |= {"download": True} if args.download else {}
    budget = experiment.budget.with_limits(getattr(args, "budget", ()))
    if (price := getattr(args, "price", None)) is not None:
        budget = replace(budget, price=price)
    return replace(
        experiment, base=base, budget=budget, tracking=uri_of(result, args.tracking), **given
    )
