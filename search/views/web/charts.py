"""Figures for the charts of the pages: as JSON for their scripts, and as small pictures."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

from search.journal.result import FAILED, SearchResult, TrialResult
from search.views.series import Axis
from search.views.web.course import Course, Record
from search.views.web.feed import Followed, Point
from trainables.catalog.tasks import Metric
from trainables.values import Json

TOP = 10
"""The number of trials, the best ones, whose curves are whole, in a colour of their own."""
THINNED = 24
"""About how many points the curve of another trial has."""


def rounded(value: float) -> float:
    """Return a figure with as many digits as a picture shows."""
    return float(f"{value:.6g}")


def top(result: SearchResult) -> list[str]:
    """Return the names of the best trials, the best first."""
    return [trial.trial for trial in result.ranking[:TOP]]


def of_search(followed: Followed) -> Json:
    """Return all that the charts of a search need, up to its last event."""
    result, course = followed.result, followed.course
    assert course is not None
    best, axes = top(result), Axis.all_of(result)
    return {
        "number": followed.number,
        "metric": _metric(result),
        "top": best,
        "course": _records(course.records),
        "seconds": rounded(course.seconds),
        "epochs": course.epochs,
        "axes": [[axis.title, axis.is_log, axis.is_choice] for axis in axes],
        "trials": [
            [*_proposed(trial, axes), _value(trial), *_curve(trial, whole=trial.trial in best)]
            for trial in result.trials.values()
        ],
    }


def of_trial(trial: TrialResult) -> Json:
    """Return the curves of one trial: its metric, and its losses."""
    metric = trial.metric
    names = {"train/loss": "training loss", "val/loss": "validation loss"}
    told = list(trial.epochs.values())
    return {
        "metric": _metric_of(metric),
        "epochs": list(trial.epochs),
        "values": [rounded(metrics[metric.key]) for metrics in told],
        "losses": {
            title: [None if key not in one else rounded(one[key]) for one in told]
            for key, title in names.items()
            if any(key in one for one in told)
        },
    }


def of_courses(every: Sequence[Followed]) -> Json:
    """Return the best so far of several searches that are ranked by one metric."""
    return {
        "metric": _metric(every[0].result),
        "searches": [
            {
                "name": one.name,
                "course": _records(one.course.records),
                "seconds": rounded(one.course.seconds),
                "epochs": one.course.epochs,
            }
            for one in every
            if one.course is not None
        ],
    }


def news(
    points: Iterable[Point],
    trials: Iterable[TrialResult],
    axes: Sequence[Axis],
    records: Iterable[Record] | None,
) -> str:
    """Return what is new as JSON; `records` are all of them, or None where there is no new one."""
    told: Json = {
        "points": [
            [one.trial, one.epoch, rounded(one.value), rounded(one.seconds), one.epochs]
            for one in points
        ],
        "trials": [_proposed(trial, axes) for trial in trials],
    }
    if records is not None:
        told["course"] = _records(records)
    return json.dumps(told)


def _metric(result: SearchResult) -> Json:
    return _metric_of(result.metric)


def _metric_of(metric: Metric) -> Json:
    limits = [value if math.isfinite(value) else None for value in metric.limits]
    return {"title": metric.title, "mode": metric.mode, "unit": metric.unit, "limits": limits}


def _records(records: Iterable[Record]) -> list[list[float]]:
    return [[rounded(one.seconds), one.epochs, rounded(one.value)] for one in list(records)]


def _proposed(trial: TrialResult, axes: Sequence[Axis]) -> list[Any]:
    return [trial.trial, [axis.value(trial) for axis in axes]]


def _value(trial: TrialResult) -> float | None:
    """Return a trial's value; None where it has none that counts."""
    return rounded(trial.value) if trial.epochs and trial.outcome not in FAILED else None


def _curve(trial: TrialResult, *, whole: bool) -> list[list[Any]]:
    """Return the epochs and values of a trial; without the best one in between, if thinned."""
    epochs, key = list(trial.epochs), trial.metric.key
    if not whole and len(epochs) > THINNED:
        last = epochs[-1]
        epochs = epochs[:: len(epochs) // THINNED]
        epochs += [last] if epochs[-1] != last else []
    return [epochs, [rounded(trial.epochs[epoch][key]) for epoch in epochs]]


def line(points: Sequence[tuple[float, float]], width: int, height: int) -> Markup:
    """Return the points of a stepped line for an SVG `polyline`, as wide and high as said."""
    if not points:
        return Markup("")
    (first, _), (last, _) = points[0], points[-1]
    values = [value for _, value in points]
    low, high = min(values), max(values)
    across, up = (width - 4) / ((last - first) or 1), (height - 4) / ((high - low) or 1)
    told, before = [], None
    for x, value in points:
        at = 2 + (x - first) * across
        y = height / 2 if high == low else height - 2 - (value - low) * up
        if before is not None:
            told.append(f"{at:.1f},{before:.1f}")
        told.append(f"{at:.1f},{y:.1f}")
        before = y
    return Markup(" ".join(told))


def course_line(course: Course, width: int, height: int) -> Markup:
    """Return the best so far against epochs, as `line` does."""
    points = [(float(one.epochs), one.value) for one in course.records]
    if points:
        points.append((float(course.epochs), points[-1][1]))
    return line(points, width, height)
