"""The value of the metric: confidence intervals of a trial's value, and values on the test set."""

from collections.abc import Mapping
from typing import Any

from search.journal.result import TrialResult
from search.values.statistics import interval_of, share_interval
from trainables.catalog.entries import Metric


def interval(trial: TrialResult, images: int) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of a trial's value on `images` images (`interval_of`)."""
    return interval_of(trial.metric, trial.best, images)


def least_score(trial: TrialResult, images: int) -> float:
    """Return the lower 95 % confidence bound of a trial's score; the score if it is not known."""
    return min(map(trial.metric.score, interval(trial, images) or (trial.value,)))


def tested_interval(
    test: Mapping[str, Any], metric: Metric
) -> tuple[float, tuple[float, float] | None]:
    """Return the metric's value in an evaluation, and its 95 % interval (None if not known)."""
    if metric.is_share:
        return test[metric.name], share_interval(test[metric.name], test["images"])
    value, low, high = (test["metric"][name] for name in ("value", "low", "high"))
    return value, None if low is None or high is None else (low, high)


def tested_value(test: Mapping[str, Any], metric: Metric) -> float | None:
    """Return the metric's value in an evaluation; None for an empty evaluation."""
    if metric.is_primary:
        return test.get(metric.name)
    value: float | None = test.get("metric", {}).get("value")
    return value
