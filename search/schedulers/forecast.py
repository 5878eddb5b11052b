"""Forecasts of the values at which trainings end, learned from those that came further."""

import math

import numpy as np
from numpy.typing import NDArray

from search.schedulers.base import Expected
from search.schedulers.standings import Array, Standings

PRIOR_TRAININGS = 3.0
"""Strength of a forecast's prior, in trainings: no slope, and the deviation of the better half."""


class Forecaster:
    """The forecast of each training's end, from its last rung, as a normal distribution."""

    def __init__(self, standings: Standings) -> None:
        self.standings = standings
        self.means, self.variances, self.freedom = (np.zeros(0) for _ in range(3))
        """Mean and variance of each training's end, and the trainings they were learned from.

        The mean is -inf where a training is at no rung; a completed one has its value.
        """
        self._changes: list[list[int]] = [[] for _ in standings.rungs]
        """For each rung, the numbers of changes that its forecasts rest on."""

    def update(self) -> None:
        """Forecast all trainings, from the last rung down, where anything has changed."""
        standings = self.standings
        missing = np.zeros(len(standings.level) - len(self.means))
        self.means, self.variances, self.freedom = (
            np.append(moments, missing) for moments in (self.means, self.variances, self.freedom)
        )
        is_completed = standings.is_completed
        self.means[standings.level < 0] = -np.inf
        self.means[is_completed] = standings.values[-1, is_completed]
        self.variances[is_completed] = 0.0
        for level in reversed(range(len(standings.rungs))):
            changes = standings.changes[max(level - 1, 0) :]
            if changes != self._changes[level]:
                self._changes[level] = changes
                self._forecast_from(level)

    def log_chances_above(self, numbers: NDArray[np.intp], bars: Array, error: float) -> Array:
        """Return the log of the chances of trainings to end above bars, which have this error."""
        # Imported here since it takes a tenth of a second, which no search's start should wait for.
        from scipy.special import log_ndtr

        self.update()
        deviations = np.sqrt(self.variances[numbers] + error**2) + 1e-12
        chances: Array = log_ndtr((self.means[numbers] - bars) / deviations)
        return chances

    def expected(self, training: int) -> Expected:
        """Return the forecast of one training, as of the last update."""
        return Expected(
            float(self.means[training]),
            math.sqrt(self.variances[training]),
            float(self.freedom[training]),
        )

    def _forecast_from(self, level: int) -> None:
        """Forecast the ends of the trainings whose last rung is this one.

        The gain from here to the end is a ridge regression on the value here and the gain since the
        rung before, learned from the trainings that came further, with their ends or forecasts. It
        is conditional on the values by which those were chosen, so that the choice bends no line.
        """
        standings = self.standings
        numbers = np.flatnonzero(~np.isnan(standings.values[level]))
        if not len(numbers):
            return
        values = standings.values[level, numbers]
        steps = values - standings.values[level - 1, numbers] if level else np.zeros(len(values))
        is_known = (standings.level[numbers] > level) | standings.is_completed[numbers]
        better = np.partition(values, len(values) // 2)[len(values) // 2 :]
        variance, gains = float(better.var()), np.zeros(len(values))
        if count := np.count_nonzero(is_known):
            further = numbers[is_known]
            table = np.column_stack([values, np.nan_to_num(steps)])
            table = (table - table[is_known].mean(axis=0)) / (table.std(axis=0) + 1e-9)
            gained = self.means[further] - values[is_known]
            slopes = _ridge(table[is_known], gained - gained.mean())
            gains = gained.mean() + table @ slopes
            squares = float(((gained - gains[is_known]) ** 2).sum()) + PRIOR_TRAININGS * variance
            variance = squares / (count + PRIOR_TRAININGS) + float(self.variances[further].mean())
        rest = numbers[~is_known]
        self.means[rest] = (values + np.maximum(0.0, gains))[~is_known]
        self.variances[rest], self.freedom[rest] = variance, count + PRIOR_TRAININGS


def _ridge(table: Array, gained: Array) -> Array:
    """Return the slopes of a line through gains, drawn to zero."""
    shrunk = table.T @ table + PRIOR_TRAININGS * np.eye(table.shape[1])
    return np.asarray(np.linalg.solve(shrunk, table.T @ gained), dtype=np.float64)
