"""What trainings will come to, as far as those that went further tell.

At a rung, a trial's forecast is its value there plus a gain. The gains of trials that have gone on
are known, or forecast themselves from where they are now; those of the others are a line through
them (over the last step's gain, or at the first rung over the value), corrected by what the nearest
in params and value gained beyond that line. No trial is judged by its own gain, so that the places
of the leaders among all, which tell how far to trust the forecasts, are honest.

Forecasts of those that do not go on are too low: who goes on had luck as well as promise, and gains
less; and curves run together towards their end. So an *outlook* is drawn from the forecasts: what
those that went on came to, as a line over what had been forecast of them and over their values
(both were known when it was decided who goes on, so that the choice bends no line through them),
with the deviation from it, which widens away from where there is anybody to learn from.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.schedulers.base import Expected
from search.space import Cases, Choice, Domain, Params, Range, SearchSpace

Array = NDArray[np.float64]

MIN_PROMOTED = 3
"""With fewer that went on, nothing is learned from them."""
MAX_FORECAST = 256
"""So many at a rung, the best by value, are forecast; those behind them keep their order."""
NEIGHBOUR = 4
"""The distance to the neighbour of this number is where influence fades."""
SHRINK = 0.5
"""How much a correction is drawn to zero: as if so many neighbours had gained what the line says."""
VALUE_SCALE = 0.5
"""Trials whose values differ by this many standard deviations are neighbours no more."""
STEEPEST, FLATTEST = 3.0, 0.0
MIN_LINE = 4
"""With fewer that went on from a rung, there is no outlook from there."""
RIDGE = 0.01
"""How much an outlook's slopes are drawn to zero, as a share of what is known of them."""
FREEDOM = 4.0
"""Degrees of freedom of an outlook, at least: as if so many had been learned from."""


@dataclass(frozen=True)
class Outlook:
    """What those that wait at a rung may come to: Student's distributions, a mean and a deviation
    each.
    """

    trials: list[str]
    means: Array
    deviations: Array
    freedom: float

    def chances(self, bar: float) -> dict[str, float]:
        """The chance of each that it comes to more than this."""
        from scipy.special import (
            stdtr,
        )  # a tenth of a second, which no search needs to wait for at its start

        return dict(
            zip(
                self.trials,
                stdtr(self.freedom, (self.means - bar) / self.deviations).tolist(),
                strict=True,
            )
        )


@dataclass(frozen=True)
class _Rung:
    """What was found of a rung."""

    foremost: list[str]
    """Those that are forecast, the best by value first."""
    known: Array
    """From what: of each its value there, that at the rung before, and what it is to come to, or
    nan; (trials, 3).
    """
    forecasts: dict[str, float]
    """Of these,"""
    of_all: dict[str, float]
    """and of all."""


@dataclass(frozen=True)
class _Told:
    """What `outlooks` found of a rung."""

    forecasts: dict[str, float]
    """From which."""
    gain: float
    """Of those that went on, in the mean."""
    left: dict[str, tuple[float, float]]
    """What those come to that did not, and its variance."""
    outlook: Outlook | None


class Forecaster:
    """The values that trials came to each rung with, the last of which is their end, and the
    forecasts from there.

    What is asked for again is found anew for those rungs alone of which, or of later ones, anything
    was heard since.
    """

    def __init__(self, space: SearchSpace, rungs: int) -> None:
        self.space = space
        self.values: list[dict[str, float]] = [{} for _ in range(rungs + 1)]
        self.points: dict[str, Array] = {}
        """Of each trial, its params as a point; distances are between 0 and about 1 a parameter."""
        self._orders: list[list[str] | None] = [None] * (rungs + 1)
        self._rungs: list[_Rung | None] = [None] * rungs
        self._past: set[int] = set(range(rungs))
        """The rungs of which, or of later ones, something was heard since."""
        self._told: list[_Told | None] = [None] * rungs
        self._noise = 0.0

    def begin(self, trial: str, params: Params) -> None:
        """A trial with these params."""
        self.points[trial] = np.array(
            [
                number
                for path, domain in self.space.domains.items()
                for number in _point(domain, params.get(path))
            ]
        )

    def hear(self, trial: str, level: int, value: float) -> None:
        """It came to this rung with this value."""
        self.values[level][trial] = value
        self._is_heard(trial, level)

    def unhear(self, trial: str, level: int) -> bool:
        """It did not come to this rung. Whether that is new."""
        if self.values[level].pop(trial, None) is None:
            return False
        self._is_heard(trial, level)
        return True

    def forget(self, trial: str) -> None:
        """It stands in nobody's way any more."""
        for level in range(len(self.values)):
            self.unhear(trial, level)

    def _is_heard(self, trial: str, level: int) -> None:
        """What was found of this rung and those before is of the past; and of the next one, which
        looks at the trial's step from here.
        """
        self._orders[level] = None
        last = (
            level + 1 if level + 1 < len(self._rungs) and trial in self.values[level + 1] else level
        )
        self._past |= set(range(min(last + 1, len(self._rungs))))

    def ordered(self, level: int) -> list[str]:
        """Those at a rung, the best by value first."""
        if (found := self._orders[level]) is None:
            values = self.values[level]
            found = self._orders[level] = sorted(values, key=values.__getitem__, reverse=True)
        return found

    def forecasts(self) -> list[dict[str, float]]:
        """At each rung, what each trial that came there was to come to, without what its own going
        on has told.
        """
        if self._past:
            to_come = dict(self.values[-1])
            """What each trial is to come to, from where it is now."""
            for level in reversed(range(len(self._rungs))):
                if (rung := self._rungs[level]) is None or level in self._past:
                    rung = self._rungs[level] = self._rung(level, to_come, rung)
                for trial, value in rung.forecasts.items():
                    to_come.setdefault(trial, value)
            self._past = set()
        return [rung.of_all for rung in self._rungs if rung is not None]

    def _rung(self, level: int, to_come: Mapping[str, float], past: _Rung | None) -> _Rung:
        """A rung, when it is known what those that went further are to come to; as it was in the
        past, as far as that rests on the same.
        """
        foremost, values = self.ordered(level)[:MAX_FORECAST], self.values[level]
        before = self.values[level - 1] if level else {}
        known = np.array(
            [
                [values[trial], before.get(trial, math.nan), to_come.get(trial, math.nan)]
                for trial in foremost
            ]
        ).reshape(-1, 3)
        if (
            past is not None
            and past.foremost == foremost
            and np.array_equal(past.known, known, equal_nan=True)
        ):
            forecasts = past.forecasts
        else:
            forecasts = self._at(level, foremost, *known.T)
        return _Rung(
            foremost,
            known,
            forecasts,
            {trial: forecasts.get(trial, value - 1) for trial, value in values.items()},
        )

    def outlooks(self, noise: float) -> list[Outlook | None]:
        """At each rung, what those may come to that have not gone on; None where too few have.

        `noise` is a deviation that each has at least.
        """
        self.forecasts()
        to_come = dict(self.values[-1])
        spread = dict.fromkeys(to_come, 0.0)
        """The variance of what each is to come to."""
        found: list[Outlook | None] = []
        for level, rung in reversed(list(enumerate(self._rungs))):
            assert rung is not None
            told = self._told[level]
            if told is None or told.forecasts is not rung.of_all or noise != self._noise:
                told = self._told[level] = self._outlook(level, rung, to_come, spread, noise)
            for trial, (mean, variance) in told.left.items():
                to_come[trial], spread[trial] = mean, variance
            found.append(told.outlook)
        self._noise = noise
        return found[::-1]

    def _outlook(
        self,
        level: int,
        rung: _Rung,
        to_come: Mapping[str, float],
        spread: Mapping[str, float],
        noise: float,
    ) -> _Told:
        """From a rung, when it is known what those that went on come to, and how surely."""
        gone = [trial for trial in rung.foremost if trial in to_come]
        left = [trial for trial in rung.foremost if trial not in to_come]
        gain = (
            float(np.mean([to_come[trial] - self.values[level][trial] for trial in gone]))
            if gone
            else 0.0
        )
        if len(gone) < MIN_LINE or not left:  # what they will gain is as uncertain as it is large
            return _Told(
                rung.of_all, gain, {trial: (rung.forecasts[trial], gain**2) for trial in left}, None
            )
        line = _Line(self._known(level, gone, rung), np.array([to_come[trial] for trial in gone]))
        means, variances = line.at(self._known(level, left, rung))
        variances += np.mean([spread.get(trial, 0.0) for trial in gone])
        outlook = Outlook(left, means, np.sqrt(variances + noise**2), max(FREEDOM, line.freedom))
        return _Told(
            rung.of_all,
            gain,
            dict(zip(left, zip(means.tolist(), variances.tolist(), strict=True), strict=True)),
            outlook,
        )

    def expected(self) -> dict[str, Expected]:
        """What each that stands at a rung, and has not come to its end, would come to, by its last
        rung as `outlooks` found it, if nothing was heard since: its outlook, or its forecast, which
        may be wrong by as much as the others gained. Those too many to be forecast are taken to
        gain what the others did.
        """
        found: dict[str, Expected] = {}
        for level, (rung, told) in reversed(
            list(enumerate(zip(self._rungs, self._told, strict=True)))
        ):
            if (
                level in self._past
                or rung is None
                or told is None
                or told.forecasts is not rung.of_all
            ):
                continue
            values = self.values[level]
            means = {
                trial: rung.forecasts.get(trial, value + told.gain)
                for trial, value in values.items()
                if trial not in self.values[-1]
            }
            here = {trial: Expected(mean, abs(told.gain), FREEDOM) for trial, mean in means.items()}
            if (outlook := told.outlook) is not None:
                each = zip(
                    outlook.trials, outlook.means.tolist(), outlook.deviations.tolist(), strict=True
                )
                here |= {
                    trial: Expected(mean, deviation, outlook.freedom)
                    for trial, mean, deviation in each
                }
            found = here | found
        return found

    def _known(self, level: int, trials: list[str], rung: _Rung) -> Array:
        """What an outlook rests on: (trials, 2)."""
        return np.array([[rung.forecasts[trial], self.values[level][trial]] for trial in trials])

    def _at(
        self, level: int, trials: list[str], values: Array, before: Array, to_come: Array
    ) -> dict[str, float]:
        """The forecasts of these trials at a rung."""
        gone, gained = ~np.isnan(to_come), to_come - values
        if gone.sum() < MIN_PROMOTED:
            return dict(
                zip(
                    trials,
                    (values + (gained[gone].mean() if gone.any() else 0.0)).tolist(),
                    strict=True,
                )
            )
        steps = np.where(np.isnan(before), 0.0, values - before) if level else values
        line = _line(steps, gained, gone, *((FLATTEST, STEEPEST) if level else (-1.0, 1.0)))
        weights = self._nearness(trials, values, gone)
        beyond = (weights @ (gained - line)[gone].astype(np.float32)).astype(float) / (
            weights.sum(axis=1) + SHRINK
        )
        return dict(zip(trials, (values + line + beyond).tolist(), strict=True))

    def _nearness(
        self, trials: list[str], values: Array, gone: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Between 0 and 1 for each trial and each that has gone on; 0 of each with itself."""
        points = np.array(
            [self.points[trial] for trial in trials], dtype=np.float32
        )  # half the time, for a weight
        lengths = (points**2).sum(axis=1)
        squares = points @ (-2 * points.T)
        squares += lengths[:, None] + lengths
        nearest = np.partition(squares, min(NEIGHBOUR, len(trials) - 1), axis=1)[
            :, min(NEIGHBOUR, len(trials) - 1)
        ]
        scaled = (values / (VALUE_SCALE * values.std() + 1e-9)).astype(np.float32)
        near: NDArray[np.float32] = (scaled[:, None] - scaled[gone]) ** 2
        near += squares[:, gone] / max(float(np.median(nearest)), 1e-9)
        near *= -0.5
        np.exp(near, out=near)
        near[np.flatnonzero(gone), np.arange(gone.sum())] = 0.0
        return near


class _Line:
    """A line through points, drawn to zero where they tell little."""

    def __init__(self, known: Array, came: Array) -> None:
        """`known` is (points, variables), `came` what each came to."""
        self._middle, self._scale = known.mean(axis=0), np.maximum(known.std(axis=0), 1e-6)
        across = self._across(known)
        drawn = np.diag([1e-6, *[RIDGE * len(came)] * known.shape[1]])
        self._inverse = np.asarray(np.linalg.inv(across.T @ across + drawn), dtype=np.float64)
        self._slopes: Array = self._inverse @ across.T @ came
        self.freedom = max(1.0, len(came) - across.shape[1])
        self._variance = float(((came - across @ self._slopes) ** 2).sum()) / self.freedom

    def _across(self, known: Array) -> Array:
        return np.column_stack([np.ones(len(known)), (known - self._middle) / self._scale])

    def at(self, known: Array) -> tuple[Array, Array]:
        """The line's means there, and the variances of single points around them."""
        across = self._across(known)
        return across @ self._slopes, self._variance * (
            1 + ((across @ self._inverse) * across).sum(axis=1)
        ) + 1e-12


def _line(
    steps: Array, gained: Array, gone: NDArray[np.bool_], flattest: float, steepest: float
) -> Array:
    """The gains that a straight line through those of who has gone on gives all."""
    middle, mean = steps[gone].mean(), gained[gone].mean()
    across = steps[gone] - middle
    slope = float(
        np.clip((across @ (gained[gone] - mean)) / (across @ across + 1e-4), flattest, steepest)
    )
    line: Array = mean + slope * (steps - middle)
    return line


def _point(domain: Domain, value: Any) -> list[float]:
    """A parameter's value as numbers: where it stands between the ends of its domain, or which
    option it is; and whether it is there.
    """
    known = list(domain.values if isinstance(domain, Choice) else domain.extremes)
    if not all(
        isinstance(option, int | float) and not isinstance(option, bool) for option in known
    ):
        return [math.sqrt(0.5) * (option == value) for option in known]
    if not isinstance(value, int | float):
        return [0.0, 1.0]
    if isinstance(domain, Choice):
        return [float(np.interp(value, sorted(known), np.linspace(0, 1, len(known)))), 0.0]
    cases = domain.cases if isinstance(domain, Cases) else (domain,)
    scale = (
        math.log
        if any(isinstance(case, Range) and case.log for case in cases) and min(known) > 0
        else float
    )
    low, high = scale(min(known)), scale(max(known))
    return [
        (scale(min(max(value, min(known)), max(known))) - low) / (high - low)
        if high > low
        else 0.0,
        0.0,
    ]
