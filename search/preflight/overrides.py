"""Changes to a recorded experiment, which a verb or a page makes when it continues the search."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search.design.budget import Limit
from search.design.experiment import Experiment
from search.journal.result import SearchResult
from search.tracking.uri import uri_of
from search.values.executors import AUTO_COUNT

REPLACED = (
    "concurrency",
    "hang_timeout",
    "address",
    "executor",
    "keep",
    "fuse",
    "min_gain",
    "stop_at_chance",
)
"""The fields of `Overrides` that replace the field of an experiment with the same name."""


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """Values that replace those of a recorded experiment.

    None, False or an empty tuple keeps the recorded value.
    """

    concurrency: int | str | None = None
    """The number of trials at once, or `AUTO_COUNT`."""
    hang_timeout: float | None = None
    """The new value of --hang-timeout, in seconds."""
    address: str | None = None
    executor: str | None = None
    tracking: str | None = None
    download: bool = False
    data_root: Path | None = None
    keep: str | None = None
    fuse: str | None = None
    min_gain: float | None = None
    stop_at_chance: int | None = None
    budget: tuple[Limit, ...] = ()
    """New limits; each replaces the recorded limits of the same kind."""
    price: float | None = None


def apply_overrides(
    experiment: Experiment, overrides: Overrides, result: SearchResult
) -> Experiment:
    """Return the experiment with these overrides.

    The tracking URI is taken from `result` if it is not overridden.
    """
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
