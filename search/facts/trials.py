"""Facts about the trials of a search, and a table of all trials."""

import math
from dataclasses import dataclass
from typing import Any

from search.journal.result import SearchResult, TrialResult
from search.values.objectives import objective_value, value_of
from search.values.wording import last_line_of
from trainables.catalog.models import MODELS
from trainables.values import Json

TOP = 10
"""Number of best trials that are shown in detail."""


def state_reason(trial: TrialResult) -> str:
    """Return a short reason for a trial's state, and for its retries; empty if there is none."""
    again = f"retried after: {', '.join(trial.retries)}" if trial.retries else ""
    reason = trial.wait_reason or trial.hold_reason or last_line_of(trial.reason)
    return "; ".join(
        text for text in (f"waiting: {reason}" if trial.wait_reason else reason, again) if text
    )


def best_first(result: SearchResult) -> list[TrialResult]:
    """Return all trials of a search, the best first; those that are not ranked come last."""
    ranked = result.ranking
    ranked_names = {trial.trial for trial in ranked}
    rest = (trial for trial in result.trials.values() if trial.trial not in ranked_names)
    return [*ranked, *rest]


def failures_by_kind(result: SearchResult) -> dict[str, list[TrialResult]]:
    """Group the failed and diverged trials by their kind of failure, such as `failed (error)`."""
    groups: dict[str, list[TrialResult]] = {}
    for trial in result.failed:
        kind = f"{trial.outcome} ({trial.kind})" if trial.kind else trial.outcome
        groups.setdefault(kind, []).append(trial)
    return groups


def value_facts(trial: TrialResult) -> Json:
    """Return a trial's primary metric, ranking metric and deviation over folds, as a dictionary."""
    return {**primary_facts(trial), "value": trial.value, **deviation(trial)}


def primary_facts(trial: TrialResult) -> dict[str, float]:
    """Return a trial's primary metric as a dictionary from its name, such as `val_accuracy`."""
    return {value_of(trial.task.primary.name): trial.primary_value}


def deviation(trial: TrialResult) -> Json:
    """Return the standard deviation of a trial's value over folds, and the number of folds.

    The keys are `val_accuracy_std`, for example, and `folds`. Empty without folds.
    """
    name = f"{value_of(trial.metric.name)}_std" if trial.metric.is_primary else "value_std"
    return (
        {}
        if trial.deviation is None
        else {name: trial.deviation, "folds": trial.config["data"]["folds"]}
    )


def is_baseline(trial: TrialResult) -> bool:
    """True if a trial was fitted once, instead of trained in epochs.

    A model that is no longer registered counts as a network.
    """
    model = MODELS.get(trial.config["model"]["name"])
    return model is not None and model.kind == "baseline"


def ms_per_image(trial: TrialResult) -> float | None:
    """Return the inference time in milliseconds for a batch of one image; None if not measured."""
    return objective_value("latency", trial.cost)


COLUMNS = ("trial", "outcome", "epochs", "value", "val_{}", "val_loss", "train_s")
"""The first columns of the table of trials, before the searched parameters; `{}` stands for the
name of the task's primary metric.
"""


@dataclass(frozen=True)
class TrialTable:
    """A table of a search's trials, in the order in which the trials were suggested."""

    columns: list[str]
    rows: list[dict[str, Any]]
    """For each trial, its values by column; unknown values are None, or NaN in numeric columns."""


def trial_table(result: SearchResult) -> TrialTable:
    """Build the table of a search's trials.

    After `COLUMNS` it has a column for each searched parameter, which is named by its dotted path.
    If this is also the name of another column, as for `epochs`, the column is `params.epochs`.
    """
    domains = result.started.experiment["space"]["domains"]
    # If a search was continued with another space, its earlier trials have other parameters.
    searched = (path for trial in result.trials.values() for path in trial.params)
    paths = list(dict.fromkeys([*domains, *searched]))
    columns = [column.format(result.task.primary.name) for column in COLUMNS]
    titles = {path: f"params.{path}" if path in columns else path for path in paths}
    rows = [
        dict(zip(columns, _figures(trial), strict=True))
        | {title: trial.params.get(path) for path, title in titles.items()}
        for trial in result.trials.values()
    ]
    return TrialTable([*columns, *titles.values()], rows)


def _figures(trial: TrialResult) -> tuple[Any, ...]:
    """Return the values of a trial for `COLUMNS`, in the same order."""
    return (
        trial.trial,
        trial.outcome,
        len(trial.epochs),
        trial.value,
        trial.primary_value,
        trial.best.get("val/loss", math.nan),
        trial.train_s,
    )
