"""Parts shared by the charts of the report and of the web pages, such as axes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.facts.parameters import param_text, searched, short_names
from search.journal.result import SearchResult, TrialResult
from trainables.catalog.tasks import Metric


class BestSoFar:
    """The best of the values that were added so far."""

    def __init__(self, metric: Metric) -> None:
        """Start without a value (`nan`); the metric decides which of two values is better."""
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
class Axis:
    """A searched parameter as an axis of parallel coordinates."""

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
        """Value of a trial on the axis; None if the trial does not have the parameter."""
        if self.path not in trial.params:
            return None
        value = trial.params[self.path]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if is_number and not self.is_choice else param_text(value)[:100]


def lowest_visible(
    scores: Sequence[float], hidden_share: float, always_visible: Sequence[float]
) -> float:
    """Lowest score that a plot shows; some of the worst trials may lie outside the plot.

    Args:
        scores: the scores of all trials.
        hidden_share: the share of the trials that may lie outside.
        always_visible: scores that must lie inside.
    """
    return min(float(np.quantile(scores, hidden_share)), *always_visible)
