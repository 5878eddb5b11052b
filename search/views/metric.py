"""A search's metric for people: words for it, intervals of its values, values on the test set."""

from collections.abc import Mapping
from typing import Any

from search.journal.result import TrialResult
from search.values.statistics import interval_of, share_interval
from trainables.catalog.tasks import Metric


def with_article(metric: Metric) -> str:
    """Return `an accuracy`, `a macro F1`."""
    return f"{'an' if metric.title[0].lower() in 'aeiou' else 'a'} {metric.title}"


def capital(metric: Metric) -> str:
    """Return the title for a sentence's beginning: `Accuracy`, `Macro F1`."""
    return metric.title[0].upper() + metric.title[1:]


def superlative(metric: Metric) -> str:
    """Return the word for the best of several values: `highest`, or `lowest` where low is good."""
    return "highest" if metric.mode == "max" else "lowest"


def as_good(metric: Metric) -> str:
    """Return `as accurate` for a share of correct predictions, else `as good`."""
    return "as accurate" if metric.is_share else "as good"


def interval(trial: TrialResult, images: int) -> tuple[float, float] | None:
    """95 % interval of a trial's value measured on `images` images; see `interval_of`."""
    return interval_of(trial.metric, trial.best, images)


def least_score(trial: TrialResult, images: int) -> float:
    """Lowest score in a trial's interval, or the trial's own score where that is not known."""
    return min(map(trial.metric.score, interval(trial, images) or (trial.value,)))


def interval_text(bounds: tuple[float, float] | None) -> str:
    """Return `95 % interval 0.9000 to 0.9500`, or that it is not known."""
    if bounds is None:
        return "95 % interval not known"
    return "95 % interval {:.4f} to {:.4f}".format(*bounds)


def tested_interval(
    test: Mapping[str, Any], metric: Metric
) -> tuple[float, tuple[float, float] | None]:
    """Return the metric of an evaluation, and its 95 % interval; None where that is not known."""
    if metric.is_share:
        return test[metric.name], share_interval(test[metric.name], test["images"])
    value, low, high = (test["metric"][name] for name in ("value", "low", "high"))
    return value, None if low is None or high is None else (low, high)


def tested_value(test: Mapping[str, Any], metric: Metric) -> float | None:
    """Return the metric of an evaluation; None of an empty one."""
    if metric.is_primary:
        return test.get(metric.name)
    value: float | None = test.get("metric", {}).get("value")
    return value
