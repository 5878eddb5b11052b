"""A search's metric in text: wording, confidence intervals, and values on the test set."""

from collections.abc import Mapping
from typing import Any

from search.journal.result import TrialResult
from search.values.statistics import interval_of, share_interval
from trainables.catalog.tasks import Metric


def with_article(metric: Metric) -> str:
    """Title of a metric with its article: `an accuracy`, `a macro F1`."""
    return f"{'an' if metric.title[0].lower() in 'aeiou' else 'a'} {metric.title}"


def capital(metric: Metric) -> str:
    """Title of a metric for the beginning of a sentence: `Accuracy`, `Macro F1`."""
    return metric.title[0].upper() + metric.title[1:]


def superlative(metric: Metric) -> str:
    """Word for the best of several values: `highest`, or `lowest` for a metric to minimise."""
    return "highest" if metric.mode == "max" else "lowest"


def as_good(metric: Metric) -> str:
    """Words for `not worse`: `as accurate` for a share of correct predictions, else `as good`."""
    return "as accurate" if metric.is_share else "as good"


def interval(trial: TrialResult, images: int) -> tuple[float, float] | None:
    """95 % confidence interval of a trial's value on `images` images; see `interval_of`."""
    return interval_of(trial.metric, trial.best, images)


def least_score(trial: TrialResult, images: int) -> float:
    """Lower confidence bound of a trial's score; the score itself if the bound is not known."""
    return min(map(trial.metric.score, interval(trial, images) or (trial.value,)))


def interval_text(bounds: tuple[float, float] | None) -> str:
    """Format an interval: `95 % interval 0.9000 to 0.9500`, or `95 % interval not known`."""
    if bounds is None:
        return "95 % interval not known"
    return "95 % interval {:.4f} to {:.4f}".format(*bounds)


def tested_interval(
    test: Mapping[str, Any], metric: Metric
) -> tuple[float, tuple[float, float] | None]:
    """Value of the metric in an evaluation, and its 95 % interval (None if that is not known)."""
    if metric.is_share:
        return test[metric.name], share_interval(test[metric.name], test["images"])
    value, low, high = (test["metric"][name] for name in ("value", "low", "high"))
    return value, None if low is None or high is None else (low, high)


def tested_value(test: Mapping[str, Any], metric: Metric) -> float | None:
    """Value of the metric in an evaluation; None for an empty evaluation."""
    if metric.is_primary:
        return test.get(metric.name)
    value: float | None = test.get("metric", {}).get("value")
    return value
