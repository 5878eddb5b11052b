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
        self._spreads: dict[int, tuple[int, float]] = {}
        """For each rung, the number of its changes, and the variance of its better half."""

    def update(self) -> None:
        """Forecast all trainings, from the last rung down, where anything has changed."""
        standings = self.standings
        if more := len(standings.level) - len(self.means):
            self.means, self.variances, self.freedom = (
                np.append(moments, np.zeros(more))
                for moments in (self.means, self.variances, self.freedom)
            )
        self.means[np.flatnonzero(standings.level < 0)] = -np.inf
        completed = np.flatnonzero(standings.is_completed)
        self.means[completed] = standings.values[-1].take(completed)
        self.variances[completed] = 0.0
        for level in reversed(range(len(standings.rungs))):
            changes = standings.changes[max(level - 1, 0) :]
            if changes != self._changes[level]:
                self._changes[level] = changes
                self._forecast_from(level)

    def log_chances_above(
        self, numbers: NDArray[np.intp], bars: Array, error: float, least: float
    ) -> Array:
        """Return the log of the chances of trainings to end above bars, which have this error.

        A lower log than `least` is replaced by it; most of those are not computed.
        """
        # Imported here since it takes a tenth of a second, which no search's start should wait for.
        from scipy.special import log_ndtr

        self.update()
        deviations = np.sqrt(self.variances.take(numbers) + error**2) + 1e-12
        distances = (self.means.take(numbers) - bars) / deviations
        # log_ndtr(-x) < -x**2 / 2 - log(x) - log(2 pi) / 2 (Mills' ratio), so less than -x**2 / 2.
        near = np.flatnonzero(distances > -math.sqrt(-2 * least))
        chances = np.full(len(numbers), least)
        chances[near] = np.maximum(least, log_ndtr(distances.take(near)))
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
        numbers = np.flatnonzero(standings.has_arrived[level])
        if not len(numbers):
            return
        values, steps = standings.values[level].take(numbers), np.zeros(len(numbers))
        if level:
            there = np.flatnonzero(standings.has_arrived[level - 1].take(numbers))
            before = standings.values[level - 1].take(numbers.take(there))
            steps[there] = values.take(there) - before
        is_ahead = standings.level.take(numbers) > level
        is_ahead |= standings.is_completed.take(numbers)
        variance, gains = self._spread(level, values), np.zeros(len(values))
        ahead = np.flatnonzero(is_ahead)
        if len(ahead):
            further = numbers.take(ahead)
            gained = self.means.take(further) - values.take(ahead)
            mean = _mean(gained)
            value, step = (_standardised(part, part.take(ahead)) for part in (values, steps))
            slopes = _ridge(value.take(ahead), step.take(ahead), gained - mean)
            gains = mean + slopes[0] * value + slopes[1] * step
            errors = gained - gains.take(ahead)
            squares = float(errors @ errors) + PRIOR_TRAININGS * variance
            inherited = _mean(self.variances.take(further))
            variance = squares / (len(ahead) + PRIOR_TRAININGS) + inherited
        rows = np.flatnonzero(~is_ahead)
        rest = numbers.take(rows)
        self.means[rest] = (values + np.maximum(0.0, gains)).take(rows)
        self.variances[rest], self.freedom[rest] = variance, len(ahead) + PRIOR_TRAININGS

    def _spread(self, level: int, values: Array) -> float:
        """Return the variance of the better half of the values at a rung."""
        changes = self.standings.changes[level]
        if level not in self._spreads or self._spreads[level][0] != changes:
            better = np.partition(values, len(values) // 2)[len(values) // 2 :]
            self._spreads[level] = changes, float(better.var())
        return self._spreads[level][1]


def _mean(numbers: Array) -> float:
    return float(numbers.sum()) / len(numbers)  # a third of the time of `numbers.mean()`


def _standardised(numbers: Array, reference: Array) -> Array:
    """Return numbers less the mean of the reference, in their own standard deviations."""
    deviations = numbers - _mean(numbers)
    scale = math.sqrt(float(deviations @ deviations) / len(numbers)) + 1e-9
    standardised: Array = (numbers - _mean(reference)) / scale
    return standardised


def _ridge(first: Array, second: Array, gained: Array) -> tuple[float, float]:
    """Return the two slopes of a plane through gains, drawn to zero."""
    squares = (float(part @ part) + PRIOR_TRAININGS for part in (first, second))
    (first_square, second_square), cross = squares, float(first @ second)
    products = float(first @ gained), float(second @ gained)
    determinant = first_square * second_square - cross**2
    return (
        (products[0] * second_square - products[1] * cross) / determinant,
        (products[1] * first_square - products[0] * cross) / determinant,
    )
