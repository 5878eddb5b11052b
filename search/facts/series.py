"""Data for the charts of the report and of the pages: the best value so far, and axes."""

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.facts.parameters import param_text, searched, short_names
from search.journal.result import SearchResult, TrialResult
from trainables.catalog.entries import Metric


class BestSoFar:
    """Keeps the best of the values that are added."""

    def __init__(self, metric: Metric) -> None:
        """Start without a value (NaN); the metric determines which of two values is better."""
        self.value = math.nan
        self._score, self._sign = -math.inf, metric.score(1.0)

    def add(self, value: float) -> bool:
        """Add a value; return True if it is better than all earlier ones."""
        score = self._sign * value
        if score <= self._score:
            return False
        self.value, self._score = value, score
        return True


@dataclass(frozen=True)
class CourseRecord:
    """A value that is better than all earlier ones."""

    seconds: float
    """Seconds since the search began, without the time between its sessions."""
    epochs: int
    """Number of epochs that all trials had trained by then."""
    value: float
    trial: str


class Course:
    """The successive best values of a search. Values of failed trials do not count."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.records: list[CourseRecord] = []
        self.seconds, self.epochs = 0.0, 0
        """When the last epoch ended, in seconds (as `CourseRecord.seconds`), and the number of
        epochs that were trained until then, without reused ones.
        """
        self._best = BestSoFar(metric)
        self._trials: list[str] = []
        self._failed: set[str] = set()
        self._seconds, self._epochs, self._values = array("d"), array("L"), array("d")

    @property
    def count(self) -> int:
        """Number of epochs that were added, including reused ones."""
        return len(self._trials)

    def add(self, trial: str, seconds: float, value: float, *, is_own: bool = True) -> bool:
        """Add an epoch; return True if its value is better than all earlier ones.

        `is_own` is False for an epoch that is reused from another trial; it is not counted in
        `epochs`.
        """
        self.seconds, self.epochs = seconds, self.epochs + is_own
        self._trials.append(trial)
        self._seconds.append(seconds)
        self._epochs.append(self.epochs)
        self._values.append(value)
        return self._take(len(self._trials) - 1)

    def drop(self, trial: str) -> None:
        """Remove the records of a trial that has failed."""
        self._failed.add(trial)
        if any(record.trial == trial for record in self.records):
            self.records, self._best = [], BestSoFar(self.metric)
            for place in range(len(self._trials)):
                self._take(place)

    def _take(self, place: int) -> bool:
        value = self._values[place]
        if self._trials[place] in self._failed or not self._best.add(value):
            return False
        record = CourseRecord(self._seconds[place], self._epochs[place], value, self._trials[place])
        self.records.append(record)
        return True


@dataclass(frozen=True)
class Axis:
    """A searched parameter as an axis of a plot with parallel coordinates."""

    path: str
    title: str
    is_log: bool
    is_choice: bool
    """True if values are categories rather than numbers."""
    options: tuple[Any, ...] = ()
    """The categories, in the space's order."""

    @classmethod
    def all_of(cls, result: SearchResult) -> "list[Axis]":
        """Build an axis for each searched parameter."""
        paths = searched(result)
        titles = short_names(paths)
        return [cls.of(result, path, titles[path]) for path in paths]

    @classmethod
    def of(cls, result: SearchResult, path: str, title: str) -> "Axis":
        """Build the axis of one searched parameter."""
        domain: Mapping[str, Any] = result.started.experiment["space"]["domains"][path]
        cases = domain.get("cases", [domain])
        return cls(
            path,
            title,
            is_log=any(case.get("log", False) for case in cases),
            is_choice=any(case["kind"] == "Choice" for case in cases),
            options=tuple(option for case in cases for option in case.get("options", ())),
        )

    def value(self, trial: TrialResult) -> float | str | None:
        """Return a trial's value on the axis; None if the trial does not have the parameter."""
        if self.path not in trial.params:
            return None
        value = trial.params[self.path]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if is_number and not self.is_choice else param_text(value)[:100]


def lowest_visible(
    scores: Sequence[float], hidden_share: float, always_visible: Sequence[float]
) -> float:
    """Return the lowest score that a plot shows; some of the worst trials may lie outside the plot.

    Args:
        scores: the scores of all trials.
        hidden_share: the largest share of the trials that may lie outside, from 0 to 1.
        always_visible: scores that must lie inside.
    """
    return min(float(np.quantile(scores, hidden_share, method="lower")), *always_visible)
