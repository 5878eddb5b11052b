"""A recorded experiment with the changes of a command line."""

import argparse
from dataclasses import replace
from typing import Any

from search.design.experiment import PLACE, Experiment
from search.journal.result import SearchResult
from search.tracking.uri import uri_of
from search.values.executors import AUTO_COUNT


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
