"""A recorded experiment with the changes that a request makes to it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search.design.budget import Limit
from search.design.experiment import Experiment
from search.journal.result import SearchResult
from search.tracking.uri import uri_of
from search.values.executors import AUTO_COUNT

REPLACED = ("concurrency", "hang_timeout", "address", "executor", "keep", "fuse", "min_gain")
"""The fields of `Overrides` that are fields of an experiment, too, with the same meaning."""


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """The values of a request that replace recorded ones; what is None or empty stays recorded."""

    concurrency: int | str | None = None
    """A number, or `AUTO_COUNT`."""
    hang_timeout: float | None = None
    """Seconds."""
    address: str | None = None
    executor: str | None = None
    tracking: str | None = None
    download: bool = False
    data_root: Path | None = None
    keep: str | None = None
    fuse: str | None = None
    min_gain: float | None = None
    budget: tuple[Limit, ...] = ()
    """Each limit replaces those of its kind."""
    price: float | None = None


def apply_overrides(
    experiment: Experiment, overrides: Overrides, result: SearchResult
) -> Experiment:
    """Replace the values of a recorded experiment for which a request has others."""
    base, budget = experiment.base, experiment.budget.with_limits(overrides.budget)
    if overrides.data_root is not None:
        base = base.override({"data.root": str(overrides.data_root.absolute())})
    if overrides.price is not None:
        budget = replace(budget, price=overrides.price)
    changes: dict[str, Any] = {
        name: value for name in REPLACED if (value := getattr(overrides, name)) is not None
    }
    if overrides.concurrency == AUTO_COUNT:
        changes["concurrency"] = None
    if overrides.download:
        changes["download"] = True
    return replace(
        experiment,
        base=base,
        budget=budget,
        tracking=uri_of(result, overrides.tracking),
        **changes,
    )
