"""What trainings will come to, as far as those that went further tell.

At a rung, a trial's forecast is its value there plus a gain. The gains of trials that have gone on are known, or forecast themselves from
where they are now; those of the others are a line through them (over the last step's gain, or at the first rung over the value), corrected
by what the nearest in params and value gained beyond that line. No trial is judged by its own gain, so that the places of the leaders among
all, which tell how far to trust the forecasts, are honest.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.space import Cases, Choice, Domain, Params, Range, SearchSpace

Array = NDArray[np.float64]

FEWEST = 3
"""With fewer that went on, nothing is learned from them."""
MOST = 256
"""So many at a rung, the best by value, are forecast; those behind them keep their order."""
NEIGHBOUR = 4
"""The distance to the neighbour of this number is where influence fades."""
SHRINK = 0.5
"""How much a correction is drawn to zero: as if so many neighbours had gained what the line says."""
VALUE_SCALE = 0.5
"""Trials whose values differ by this many standard deviations are neighbours no more."""
STEEPEST, FLATTEST = 3.0, 0.0


class Forecaster:
    """The values that trials came to each rung with, the last of which is their end, and the forecasts from there."""

    def __init__(self, space: SearchSpace, rungs: int) -> None:
        self.space = space
        self.values: list[dict[str, float]] = [{} for _ in range(rungs + 1)]
        self.points: dict[str, Array] = {}
        """Of each trial, its params as a point; distances are between 0 and about 1 a parameter."""

    def begin(self, trial: str, params: Params) -> None:
        """A trial with these params."""
        self.points[trial] = np.array([number for path, domain in self.space.domains.items() for number in _point(domain, params.get(path))])

    def hear(self, trial: str, level: int, value: float) -> None:
        """It came to this rung with this value."""
        self.values[level][trial] = value

    def forget(self, trial: str) -> None:
        """It stands in nobody's way any more."""
        for values in self.values:
            values.pop(trial, None)

    def forecasts(self) -> list[dict[str, float]]:
        """At each rung, what each trial that came there was to come to, without what its own going on has told."""
        to_come = dict(self.values[-1])
        """What each trial is to come to, from where it is now."""
        found: list[dict[str, float]] = []
        for level in reversed(range(len(self.values) - 1)):
            values = self.values[level]
            best = sorted(values, key=values.__getitem__, reverse=True)[:MOST]
            forecasts = self._at(level, best, to_come)
            found.append({trial: forecasts.get(trial, values[trial] - 1) for trial in values})
            to_come = {**forecasts, **to_come}
        return found[::-1]

    def _at(self, level: int, trials: list[str], to_come: Mapping[str, float]) -> dict[str, float]:
        """The forecasts of these trials at a rung."""
        values = np.array([self.values[level][trial] for trial in trials])
        gone = np.array([trial in to_come for trial in trials], dtype=bool)
        gained = np.array([to_come.get(trial, 0.0) for trial in trials]) - values
        if gone.sum() < FEWEST:
            return dict(zip(trials, (values + (gained[gone].mean() if gone.any() else 0.0)).tolist(), strict=True))
        before = self.values[level - 1] if level else {}
        steps = values - [before.get(trial, value) for trial, value in zip(trials, values, strict=True)] if level else values
        line = _line(steps, gained, gone, *((FLATTEST, STEEPEST) if level else (-1.0, 1.0)))
        weights = self._nearness(trials, values)[:, gone]
        beyond = (weights @ (gained - line)[gone]) / (weights.sum(axis=1) + SHRINK)
        return dict(zip(trials, (values + line + beyond).tolist(), strict=True))

    def _nearness(self, trials: list[str], values: Array) -> Array:
        """Between 0 and 1 for each two trials; 0 of each with itself."""
        points = np.array([self.points[trial] for trial in trials])
        squares = ((points[:, None] - points[None]) ** 2).sum(axis=2)
        nearest = np.partition(squares, min(NEIGHBOUR, len(trials) - 1), axis=1)[:, min(NEIGHBOUR, len(trials) - 1)]
        apart = ((values[:, None] - values[None]) / (VALUE_SCALE * values.std() + 1e-9)) ** 2
        near: Array = np.exp(-0.5 * (squares / max(float(np.median(nearest)), 1e-9) + apart))
        np.fill_diagonal(near, 0.0)
        return near


def _line(steps: Array, gained: Array, gone: NDArray[np.bool_], flattest: float, steepest: float) -> Array:
    """The gains that a straight line through those of who has gone on gives all."""
    middle, mean = steps[gone].mean(), gained[gone].mean()
    across = steps[gone] - middle
    slope = float(np.clip((across @ (gained[gone] - mean)) / (across @ across + 1e-4), flattest, steepest))
    line: Array = mean + slope * (steps - middle)
    return line


def _point(domain: Domain, value: Any) -> list[float]:
    """A parameter's value as numbers: where it stands between the ends of its domain, or which option it is; and whether it is there."""
    known = list(domain.values if isinstance(domain, Choice) else domain.extremes)
    if not all(isinstance(option, int | float) and not isinstance(option, bool) for option in known):
        return [math.sqrt(0.5) * (option == value) for option in known]
    if not isinstance(value, int | float):
        return [0.0, 1.0]
    if isinstance(domain, Choice):
        return [float(np.interp(value, sorted(known), np.linspace(0, 1, len(known)))), 0.0]
    cases = domain.cases if isinstance(domain, Cases) else (domain,)
    scale = math.log if any(isinstance(case, Range) and case.log for case in cases) and min(known) > 0 else float
    low, high = scale(min(known)), scale(max(known))
    return [(scale(min(max(value, min(known)), max(known))) - low) / (high - low) if high > low else 0.0, 0.0]
