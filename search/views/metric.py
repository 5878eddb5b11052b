"""A search's metric for people: words for it, intervals of its values, values on the test part."""

from collections.abc import Mapping
from typing import Any

from search.journal.result import TrialResult
from search.statistics import interval_of, of_images
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
    """Return `as accurate`, or `as good` where that would not say it."""
    return "as accurate" if metric.is_share else "as good"


def interval(trial: TrialResult, images: int) -> tuple[float, float]:
    """Return the 95 % interval that so many images tell for a trial's value."""
    return interval_of(trial.metric, trial.best, images)


def least_score(trial: TrialResult, images: int) -> float:
    """Return the score from which on other trials lie in a trial's interval, or above."""
    return min(map(trial.metric.score, interval(trial, images)))


def tested_interval(test: Mapping[str, Any], metric: Metric) -> tuple[float, float, float]:
    """Return the metric of an evaluation, and its 95 % interval: value, low and high."""
    if metric.is_share:
        return (test[metric.name], *of_images(test[metric.name], test["images"]))
    found = test["metric"]
    return found["value"], found["low"], found["high"]


def tested_value(test: Mapping[str, Any], metric: Metric) -> float | None:
    """Return the metric of an evaluation; None of an empty one."""
    if metric.is_primary:
        return test.get(metric.name)
    value: float | None = test.get("metric", {}).get("value")
    return value
