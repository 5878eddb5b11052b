"""Data for the charts of the pages: JSON for scripts, and points for SVG polylines."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

from search.facts.series import Axis, Course, CourseRecord
from search.facts.trials import TOP
from search.journal.result import FAILED, SearchResult, TrialResult
from search.web.feed import Followed, Point
from trainables.catalog.entries import Metric
from trainables.values import Json

THINNED = 24
"""Approximate number of points in the curve of a trial that is not among the `TOP` best."""


def rounded(value: float) -> float:
    """Round to six significant digits, which is more precise than a chart."""
    return float(f"{value:.6g}")


def top(result: SearchResult) -> list[str]:
    """Return the names of the `TOP` best trials, the best first."""
    return [trial.trial for trial in result.ranking[:TOP]]


def of_search(followed: Followed) -> Json:
    """Collect the data of all charts of a search, up to its last event, as JSON values."""
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
    """Collect the learning curves of a trial: its metric and its losses by epoch."""
    metric = trial.metric
    names = {"train/loss": "training loss", "val/loss": "validation loss"}
    epoch_metrics = list(trial.epochs.values())
    return {
        "metric": _metric_of(metric),
        "epochs": list(trial.epochs),
        "values": [rounded(metrics[metric.key]) for metrics in epoch_metrics],
        "losses": {
            title: [
                None if key not in metrics else rounded(metrics[key]) for metrics in epoch_metrics
            ]
            for key, title in names.items()
            if any(key in metrics for metrics in epoch_metrics)
        },
    }


def of_courses(searches: Sequence[Followed]) -> Json:
    """Collect the best values so far over time for several searches with the same metric."""
    return {
        "metric": _metric(searches[0].result),
        "searches": [
            {
                "name": followed.name,
                "course": _records(followed.course.records),
                "seconds": rounded(followed.course.seconds),
                "epochs": followed.course.epochs,
            }
            for followed in searches
            if followed.course is not None
        ],
    }


def news(
    points: Iterable[Point],
    trials: Iterable[TrialResult],
    axes: Sequence[Axis],
    records: Iterable[CourseRecord] | None,
) -> str:
    """Encode new epochs and trials as JSON, with which a page updates its charts.

    Args:
        points: the new epochs.
        trials: the new trials.
        axes: an axis for each searched parameter.
        records: all best values so far over time; None if they have not changed.
    """
    changes: Json = {
        "points": [
            [point.trial, point.epoch, rounded(point.value), rounded(point.seconds), point.epochs]
            for point in points
        ],
        "trials": [_proposed(trial, axes) for trial in trials],
    }
    if records is not None:
        changes["course"] = _records(records)
    return json.dumps(changes)


def _metric(result: SearchResult) -> Json:
    return _metric_of(result.metric)


def _metric_of(metric: Metric) -> Json:
    limits = [value if math.isfinite(value) else None for value in metric.limits]
    return {"title": metric.title, "mode": metric.mode, "unit": metric.unit, "limits": limits}


def _records(records: Iterable[CourseRecord]) -> list[list[float]]:
    return [
        [rounded(record.seconds), record.epochs, rounded(record.value)] for record in list(records)
    ]


def _proposed(trial: TrialResult, axes: Sequence[Axis]) -> list[Any]:
    return [trial.trial, [axis.value(trial) for axis in axes]]


def _value(trial: TrialResult) -> float | None:
    """Return the value of a trial; None before its first epoch, and for a failed trial."""
    return rounded(trial.value) if trial.epochs and trial.outcome not in FAILED else None


def _curve(trial: TrialResult, *, whole: bool) -> list[list[Any]]:
    """Return the epochs of a trial and their values: all if `whole`, otherwise about `THINNED`."""
    epochs, key = list(trial.epochs), trial.metric.key
    if not whole and len(epochs) > THINNED:
        last = epochs[-1]
        epochs = epochs[:: len(epochs) // THINNED]
        epochs += [last] if epochs[-1] != last else []
    return [epochs, [rounded(trial.epochs[epoch][key]) for epoch in epochs]]


def line(points: Sequence[tuple[float, float]], width: int, height: int) -> Markup:
    """Format points as the vertices of a stepped SVG `polyline`; empty without points.

    Args:
        points: pairs (x, y), sorted by x.
        width: the width of the picture, in pixels.
        height: the height of the picture, in pixels.
    """
    if not points:
        return Markup("")
    (first, _), (last, _) = points[0], points[-1]
    values = [value for _, value in points]
    low, high = min(values), max(values)
    across, up = (width - 4) / ((last - first) or 1), (height - 4) / ((high - low) or 1)
    vertices, before = [], None
    for x, value in points:
        at = 2 + (x - first) * across
        y = height / 2 if high == low else height - 2 - (value - low) * up
        if before is not None:
            vertices.append(f"{at:.1f},{before:.1f}")
        vertices.append(f"{at:.1f},{y:.1f}")
        before = y
    return Markup(" ".join(vertices))


def course_line(course: Course, width: int, height: int) -> Markup:
    """Format the best value so far over epochs as the vertices of an SVG `polyline` (`line`)."""
    points = [(float(record.epochs), record.value) for record in course.records]
    if points:
        points.append((float(course.epochs), points[-1][1]))
    return line(points, width, height)
