"""Forecasts of the values that trainings will reach, learned from those that went further.

At a rung, a trial's forecast is its value there plus a gain. The gains of trials that have gone on
are known, or forecast themselves from where they are now. The gains of the others follow a line
through them (over the value and the last step's gain), corrected by what the nearest in params and
value gained beyond that line. No trial is its own neighbour, and the line has its gain as one of
many, so that the places of the leaders among all, which tell how far to trust the forecasts, are
nearly honest. Places are by *hopes*: the more a
trial has still to gain, and the more forecasts of gains were wrong, the further above its forecast
it may end. Of a *beginner*, whose value at an early rung is hardly above the lowest, nothing is
known yet: it is forecast, but what is forecast of it tells nothing of others. One that has begun by
the next rung, a *late starter*, has more to gain than others there, who began before it. It is
forecast to gain more, as far as there were late starters like it at earlier rungs, and these did.

Forecasts of trials that do not go on are too low: a trial that goes on had luck as well as promise,
and gains less; and curves run together towards their end. So an *outlook* is drawn from the
forecasts: what the trials that went on came to, as a line over what had been forecast of them and
over their values (both were known when it was decided which trials go on, so that the choice bends
no line through them), with the deviation from it, which grows with the distance from the trials
that it was learned from.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.schedulers.base import Expected
from search.space import Cases, Choice, Domain, Range, SearchSpace
from trainables.values import Params

Array = NDArray[np.float64]

MIN_PROMOTED = 3
"""The least number of trials that went on for anything to be learned from them."""
MAX_FORECAST = 256
"""The number of trials at a rung, the best by value, that are forecast.

Those behind them keep their order.
"""
NEIGHBOUR = 4
"""The influence of a trial fades at the distance to the neighbour of this number."""
NEAREST = 0.001
"""The least distance to that neighbour: where params are the same, as single precision tells it."""
SHRINK = 0.5
"""The strength with which a correction is drawn to zero.

It is as if this many neighbours had gained what the line says.
"""
BEGINNING = 0.2
"""A trial is a beginner while it has come no more than this share of the way.

The way is from the lowest value at the first rung to the best one at the trial's own.
"""
USUAL = 0.7
"""The least gain of a beginner that has begun to learn, relative to the median of the others'."""
OUTLIERS = 0.1
"""The share of the trials whose values are too low to count as the lowest."""
VALUE_SCALE = 0.5
"""Trials whose values differ by this many standard deviations are neighbours no more."""
SLOPES = ((-1.0, 1.0), (0.0, 3.0))
"""The bounds of a line's slopes over the value and over the last step's gain."""
DRAWN = 0.0001
"""The strength with which these slopes are drawn to zero: over the value it is per trial."""
HOPE = 0.5
"""The share of the usual error of gains, relative to them, that is added to a trial's gain."""
MIN_LINE = 4
"""The least number of trials that went on from a rung for an outlook from there."""
RIDGE = 0.01
"""The strength with which an outlook's slopes are drawn to zero, per trial learned from."""
FREEDOM = 4.0
"""The least degrees of freedom of an outlook: as if so many had been learned from."""


@dataclass(frozen=True)
class Outlook:
    """The values that trials at a rung may reach, as Student's t distributions.

    Each trial has a mean and a deviation; the degrees of freedom are the same for all. Those that
    went on have the outlook that they would have, had they waited.
    """

    trials: list[str]
    means: Array
    deviations: Array
    freedom: float

    def chances(self, bar: float) -> dict[str, float]:
        """Return each trial's chance to reach more than `bar`."""
        # Imported here since it takes a tenth of a second, which no search's start should wait for.
        from scipy.special import stdtr

        return dict(
            zip(
                self.trials,
                stdtr(self.freedom, (self.means - bar) / self.deviations).tolist(),
                strict=True,
            )
        )


@dataclass(frozen=True)
class _Rung:
    """The forecasts at a rung, and the values that they rest on."""

    foremost: list[str]
    """The trials that are forecast, the best by value first."""
    points: NDArray[np.float32]
    """Their params as points, such that neighbours are at a distance of 1; (trials, numbers)."""
    known: Array
    """The values that the forecasts rest on; (3, trials).

    For each trial its value there, that at the rung before, and that which it is to reach, or nan.
    """
    forecasts: dict[str, float]
    """The forecasts of the foremost trials."""
    of_all: dict[str, float]
    """The forecasts of all trials at the rung."""
    hopes: dict[str, float]
    """The hopes of all trials at the rung."""
    late: dict[str, tuple[float, float]]
    """What late starters among the foremost may reach, and the trust in that."""


@dataclass(frozen=True)
class _RungOutlook:
    """The result of `outlooks` for a rung."""

    forecasts: dict[str, float]
    """The forecasts that it rests on."""
    gain: float
    """The mean gain of the trials that went on."""
    means: dict[str, float]
    """The mean of what each trial that did not go on would reach."""
    variances: dict[str, float]
    """The variance of the same."""
    outlook: Outlook | None
    """The outlook of the trials; None where too few have gone on, or all."""


class Forecaster:
    """The values that trials came to at each rung, and the forecasts from there.

    The last rung is a trial's end. Results are kept, and computed anew only for rungs where
    something was heard since, at them or at later ones, or where that changed who started late.
    """

    def __init__(self, space: SearchSpace, rungs: int, early: int = 0) -> None:
        self.space = space
        self.early = early
        """The number of early rungs: whoever shows nothing there is a beginner."""
        self.values: list[dict[str, float]] = [{} for _ in range(rungs + 1)]
        """For each rung, and last for the end, the value of each trial that came there."""
        self.points: dict[str, Array] = {}
        """The params of each trial as a point.

        Distances are between 0 and about 1 a parameter.
        """
        self._orders: list[list[str] | None] = [None] * (rungs + 1)
        self._rungs: list[_Rung | None] = [None] * rungs
        self._stale: set[int] = set(range(rungs))
        """The rungs that must be computed anew."""
        self._summaries: list[_RungOutlook | None] = [None] * rungs
        self._beginners: list[tuple[list[str], float, set[str]] | None] = [None] * (rungs + 1)
        """For each rung, its beginners, with the order and lowest value that they follow from."""
        self._begun: list[tuple[list[str], list[str], float, set[str]] | None] = [None] * rungs
        """For each rung, those that have begun, with both orders and the lowest value."""
        self._late: list[dict[str, tuple[float, float]]] = [{} for _ in range(early + 1)]
        """For each rung up to the one after the early ones, the late starters there.

        Each has its values at the rung before and there.
        """
        self._noise, self._lowest = 0.0, 0.0

    def begin(self, trial: str, params: Params) -> None:
        """Add a trial with these params."""
        self.points[trial] = np.array(
            [
                number
                for path, domain in self.space.domains.items()
                for number in _point(domain, params.get(path))
            ]
        )

    def hear(self, trial: str, level: int, value: float) -> None:
        """Record that a trial came to this rung with this value."""
        self.values[level][trial] = value
        self._mark_stale(trial, level)

    def unhear(self, trial: str, level: int) -> bool:
        """Forget that a trial came to this rung; return whether it had."""
        if self.values[level].pop(trial, None) is None:
            return False
        self._mark_stale(trial, level)
        return True

    def forget(self, trial: str) -> None:
        """Forget the values of a trial, so that it takes no place any more."""
        for level in range(len(self.values)):
            self.unhear(trial, level)

    def _mark_stale(self, trial: str, level: int) -> None:
        """Mark as stale this rung, those before it, and the next if the trial came there.

        The next one looks at the trial's step from here.
        """
        self._orders[level] = None
        last = (
            level + 1 if level + 1 < len(self._rungs) and trial in self.values[level + 1] else level
        )
        self._stale |= set(range(min(last + 1, len(self._rungs))))

    def ordered(self, level: int) -> list[str]:
        """Return the trials at a rung, the best by value first."""
        if (found := self._orders[level]) is None:
            values = self.values[level]
            found = self._orders[level] = sorted(values, key=values.__getitem__, reverse=True)
        return found

    @property
    def best(self) -> float:
        """The best value of all so far; 0 before the first."""
        return max(
            (values[self.ordered(level)[0]] for level, values in enumerate(self.values) if values),
            default=0.0,
        )

    def beginners(self, level: int) -> set[str]:
        """Return the trials at a rung whose values are hardly above the lowest of the first."""
        values, ordered, lowest = self.values[level], self.ordered(level), self.lowest
        known = self._beginners[level]
        if known is None or known[0] is not ordered or known[1] != lowest:
            least = lowest + BEGINNING * (values[ordered[0]] - lowest) if ordered else lowest
            found = set(takewhile(lambda trial: values[trial] < least, reversed(ordered)))
            known = self._beginners[level] = ordered, lowest, found
        return known[2]

    def begun(self, level: int) -> set[str]:
        """Return the beginners at a rung that have begun to learn by the next.

        They are no beginners there, and gained about as much as others on the way.
        """
        orders, lowest = (self.ordered(level), self.ordered(level + 1)), self.lowest
        known = self._begun[level]
        if known and known[0] is orders[0] and known[1] is orders[1] and known[2] == lowest:
            return known[3]
        here, there, beginners = self.values[level], self.values[level + 1], self.beginners(level)
        gains = {trial: there[trial] - here[trial] for trial in here.keys() & there.keys()}
        others = [gain for trial, gain in gains.items() if trial not in beginners]
        least = USUAL * float(np.median(others)) if others else 0.0
        found = {trial for trial in self.late_starters(level + 1) if gains[trial] >= least}
        self._begun[level] = *orders, lowest, found
        return found

    def late_starters(self, level: int) -> set[str]:
        """Return the trials that were beginners at the rung before, and are none here."""
        if not level:
            return set()
        return self.values[level].keys() & self.beginners(level - 1) - self.beginners(level)

    @property
    def lowest(self) -> float:
        """The lowest value at the first rung but for outliers; 0 before there is one."""
        ordered = self.ordered(0)
        return self.values[0][ordered[-1 - int(OUTLIERS * len(ordered))]] if ordered else 0.0

    def forecasts(self) -> list[dict[str, float]]:
        """Return, for each rung, the forecast of each trial that came there.

        What a trial's own going on has told enters its forecast only as one of all that the line is
        fitted to.
        """
        return [rung.of_all for rung in self._known_rungs()]

    def hopes(self) -> list[dict[str, float]]:
        """Return, for each rung, the hope of each trial that came there."""
        return [rung.hopes for rung in self._known_rungs()]

    def _known_rungs(self) -> list[_Rung]:
        """Return the rungs as of now."""
        if self.lowest != self._lowest:
            self._lowest = self.lowest
            self._stale |= set(range(min(self.early + 1, len(self._rungs))))
        if self._stale:
            self._find_late_starters()
            to_come = dict(self.values[-1])
            """The value that each trial is to reach, from where it is now."""
            for level in reversed(range(len(self._rungs))):
                if (rung := self._rungs[level]) is None or level in self._stale:
                    rung = self._rungs[level] = self._rung(level, to_come, rung)
                unknown = self.beginners(level) if level < self.early else set[str]()
                to_come = {
                    trial: value for trial, value in rung.forecasts.items() if trial not in unknown
                } | to_come
            self._stale = set()
        return [rung for rung in self._rungs if rung is not None]

    def _rung(self, level: int, to_come: Mapping[str, float], previous: _Rung | None) -> _Rung:
        """Return a rung's forecasts, given the values that trials that went further are to reach.

        The `previous` forecasts are taken over as far as they rest on the same values.
        """
        ordered, values = self.ordered(level), self.values[level]
        foremost, behind = ordered[:MAX_FORECAST], ordered[MAX_FORECAST:]
        before = self.values[level - 1] if level else {}
        known = np.array(
            [
                [values[trial] for trial in foremost],
                [before.get(trial, math.nan) for trial in foremost],
                [to_come.get(trial, math.nan) for trial in foremost],
            ]
        )
        late = self._late_forecasts(level, foremost, known, to_come)
        if previous is None or previous.foremost != foremost:
            points, forecasts = self._scaled(foremost), None
        else:
            points = previous.points
            is_same = np.array_equal(previous.known, known, equal_nan=True)
            forecasts = previous.forecasts if is_same and previous.late == late else None
        if forecasts is None:
            forecasts = _forecasts(foremost, points, *known, is_first=not level)
            for trial, (reached, trust) in late.items():
                forecasts[trial] += trust * max(0.0, reached - forecasts[trial])
        below = max(1.0, values[behind[0]] - min(forecasts.values())) if behind else 0.0
        """The fall of those behind, so that all of them stand behind the foremost."""
        fallen = {trial: values[trial] - below for trial in behind}
        hopes = _hopes(forecasts, known)
        return _Rung(foremost, points, known, forecasts, forecasts | fallen, hopes | fallen, late)

    def _find_late_starters(self) -> None:
        """Find the late starters at each rung.

        Where there are others than before, the rungs from there on are stale.
        """
        found: list[dict[str, tuple[float, float]]] = [{} for _ in self._late]
        for level, values in enumerate(self.values[: len(found)]):
            if late := self.late_starters(level):
                before = self.values[level - 1]
                # In order, so that the same sums come out whatever the order of a set.
                ordered = (trial for trial in self.ordered(level) if trial in late)
                found[level] = {trial: (before[trial], values[trial]) for trial in ordered}
        changed = [level for level, late in enumerate(found) if late != self._late[level]]
        if changed:
            self._stale |= set(range(changed[0], min(self.early + 1, len(self._rungs))))
        self._late = found

    def _late_forecasts(
        self, level: int, foremost: list[str], known: Array, to_come: Mapping[str, float]
    ) -> dict[str, tuple[float, float]]:
        """Return the value that each late starter reaches if it gains what those before it did.

        With it comes the trust in that, from 0 to 1. Those before it are the late starters of
        earlier rungs that have gone on from this one, near in value and last step. What they gained
        in as many rungs as are left counts, or else, where they did not come as far, all that they
        are forecast to gain, which is more.
        """
        if level > self.early or not self._late[level]:
            return {}
        began = {
            trial: rung
            for rung in range(1, level)
            for trial in self._late[rung]
            if trial in to_come
        }
        if len(began) < MIN_PROMOTED:
            return {}
        seen = np.array([self._late[rung][trial] for trial, rung in began.items()])
        left = len(self._rungs) - level
        # What is heard at rungs before this one is no reason to compute it anew.
        gained = [
            self.values[max(level, rung + left)].get(trial, to_come[trial])
            for trial, rung in began.items()
        ] - seen[:, 1]
        # One value that has exploded would make all that is usual look alike.
        before, here = np.maximum(self.lowest, known[1]), np.maximum(self.lowest, known[0])
        steps = here - before
        widths = VALUE_SCALE * here.std() + 1e-9, VALUE_SCALE * np.nanstd(steps) + 1e-9
        late = {}
        for row, trial in enumerate(foremost):
            if trial not in self._late[level]:
                continue
            others = np.array([other != trial for other in began])
            if others.sum() < MIN_PROMOTED:
                continue
            far = (seen[:, 1] - here[row]) / widths[0]
            far_in_step = (seen[:, 1] - seen[:, 0] - steps[row]) / widths[1]
            near = others * np.exp(-(far**2 + far_in_step**2) / 2)
            gain, weight = float(near @ gained), float(near.sum())
            late[trial] = float(here[row]) + gain / max(weight, 1e-9), weight / (weight + SHRINK)
        return late

    def outlooks(self, noise: float) -> list[Outlook | None]:
        """Return, for each rung, the outlook of the trials there.

        It is None where too few have gone on, or all. `noise` is a deviation that each trial has at
        least.
        """
        self._known_rungs()
        to_come = dict(self.values[-1])
        spread = dict.fromkeys(to_come, 0.0)
        """The variance of what each trial is to reach."""
        found: list[Outlook | None] = []
        for level, rung in reversed(list(enumerate(self._rungs))):
            assert rung is not None
            summary = self._summaries[level]
            if summary is None or summary.forecasts is not rung.of_all or noise != self._noise:
                summary = self._summaries[level] = _outlook(rung, to_come, spread, noise)
            unknown = self.beginners(level) if level < self.early else set[str]()
            for trial in summary.means.keys() - unknown:
                to_come[trial], spread[trial] = summary.means[trial], summary.variances[trial]
            found.append(summary.outlook)
        self._noise = noise
        return found[::-1]

    def expected(self) -> dict[str, Expected]:
        """Return the expected value of each trial that has not come to its end.

        It is taken from the trial's last rung as `outlooks` found it, if nothing was heard since:
        its outlook, or its forecast, which may be wrong by as much as the others gained. Trials
        that are too many to be forecast are taken to gain what the others did.
        """
        found: dict[str, Expected] = {}
        for level, (rung, summary) in reversed(
            list(enumerate(zip(self._rungs, self._summaries, strict=True)))
        ):
            if (
                level in self._stale
                or rung is None
                or summary is None
                or summary.forecasts is not rung.of_all
            ):
                continue
            values = self.values[level]
            means = {
                trial: rung.forecasts.get(trial, value + summary.gain)
                for trial, value in values.items()
                if trial not in self.values[-1]
            }
            here = {
                trial: Expected(mean, abs(summary.gain), FREEDOM) for trial, mean in means.items()
            }
            if (outlook := summary.outlook) is not None:
                each = zip(
                    outlook.trials, outlook.means.tolist(), outlook.deviations.tolist(), strict=True
                )
                here |= {
                    trial: Expected(mean, deviation, outlook.freedom)
                    for trial, mean, deviation in each
                    if trial in here
                }
            found = here | found
        return found

    def _scaled(self, trials: list[str]) -> NDArray[np.float32]:
        """Return the params of trials as points, scaled so that neighbours are at a distance of 1.

        (trials, numbers)
        """
        # Single precision is enough for a weight, and takes half the time.
        points = np.array([self.points[trial] for trial in trials], dtype=np.float32)
        if not points.size:
            return points
        points -= points.mean(axis=0)
        lengths, number = (points**2).sum(axis=1), min(NEIGHBOUR, len(trials) - 1)
        squares = points @ (-2 * points.T)
        squares += lengths[:, None] + lengths
        nearest = np.partition(squares, number, axis=1)[:, number]
        scaled: NDArray[np.float32] = points / max(
            NEAREST, math.sqrt(max(0.0, float(np.median(nearest))))
        )
        return scaled


def _forecasts(
    trials: list[str],
    points: NDArray[np.float32],
    values: Array,
    before: Array,
    to_come: Array,
    *,
    is_first: bool,
) -> dict[str, float]:
    """Return the forecasts of these trials at a rung."""
    promoted, gained = ~np.isnan(to_come), to_come - values
    if promoted.sum() < MIN_PROMOTED:
        gain = gained[promoted].mean() if promoted.any() else 0.0
        return dict(zip(trials, (values + gain).tolist(), strict=True))
    steps = np.where(np.isnan(before), 0.0, values - before)
    line = _line(values[:, None] if is_first else np.column_stack([values, steps]), gained)
    weights = _nearness(points, values, promoted)
    beyond = (weights @ (gained - line)[promoted].astype(np.float32)).astype(float) / (
        weights.sum(axis=1) + SHRINK
    )
    return dict(zip(trials, (values + line + beyond).tolist(), strict=True))


def _nearness(
    points: NDArray[np.float32], values: Array, promoted: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the nearness of each trial to each that has gone on, between 0 and 1.

    (trials, trials that went on); 0 of each trial with itself.
    """
    scaled = (values - values.mean()) / (VALUE_SCALE * values.std() + 1e-9)
    places, rows = np.column_stack([points, scaled.astype(np.float32)]), np.flatnonzero(promoted)
    lengths = (places**2).sum(axis=1) / 2
    near: NDArray[np.float32] = places @ places[rows].T
    near -= lengths[:, None]
    near -= lengths[rows]
    np.exp(near, out=near)
    near[rows, np.arange(len(rows))] = 0.0
    return near


def _outlook(
    rung: _Rung, to_come: Mapping[str, float], spread: Mapping[str, float], noise: float
) -> _RungOutlook:
    """Return the outlook from a rung, given what the trials that went on come to.

    `spread` has the variance of each of those values.
    """
    gone_on = np.array([trial in to_come for trial in rung.foremost], dtype=bool)
    promoted = [trial for trial in rung.foremost if trial in to_come]
    remaining = [trial for trial in rung.foremost if trial not in to_come]
    came = np.array([to_come[trial] for trial in promoted])
    gain = float((came - rung.known[0][gone_on]).mean()) if promoted else 0.0
    # Too few for a line, or none to forecast: the gain is taken as uncertain as it is large.
    if len(promoted) < MIN_LINE or not remaining:
        forecasts = {trial: rung.forecasts[trial] for trial in remaining}
        return _RungOutlook(rung.of_all, gain, forecasts, dict.fromkeys(remaining, gain**2), None)
    known = np.column_stack([list(rung.forecasts.values()), rung.known[0]])
    line = _Line(known[gone_on], came)
    unknown = sum(spread.get(trial, 0.0) for trial in promoted) / len(promoted)
    """The variance of what those that went on come to, as far as that is not known yet."""
    means, variances = line.at(known)
    variances += unknown
    return _RungOutlook(
        rung.of_all,
        gain,
        dict(zip(remaining, means[~gone_on].tolist(), strict=True)),
        dict(zip(remaining, variances[~gone_on].tolist(), strict=True)),
        Outlook(rung.foremost, means, np.sqrt(variances + noise**2), max(FREEDOM, line.freedom)),
    )


class _Line:
    """A linear fit to points, with slopes drawn to zero where the points tell little."""

    def __init__(self, known: Array, came: Array) -> None:
        """Fit a line: `known` is (points, variables), `came` the value that each came to."""
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
        """Return the line's means there, and the variances of single points around them."""
        across = self._across(known)
        return across @ self._slopes, self._variance * (
            1 + ((across @ self._inverse) * across).sum(axis=1)
        ) + 1e-12


def _line(known: Array, gained: Array) -> Array:
    """Return the gain of every trial by a line through the gains of those that went on.

    `known` is (trials, variables): the value and, beyond the first rung, the last step's gain;
    `gained` is nan for those that did not go on.
    """
    promoted, variables = ~np.isnan(gained), known.shape[1]
    across = known - known[promoted].mean(axis=0)
    mean, learned = gained[promoted].mean(), across[promoted]
    drawn = np.diag([DRAWN * len(learned), DRAWN][:variables])
    slopes, *_ = np.linalg.lstsq(
        learned.T @ learned + drawn, learned.T @ (gained[promoted] - mean), rcond=None
    )
    lowest, highest = np.array(SLOPES[:variables]).T
    line: Array = mean + across @ np.clip(slopes, lowest, highest)
    return line


def _hopes(forecasts: dict[str, float], known: Array) -> dict[str, float]:
    """Return the hopes of the foremost trials at a rung, given the values that these rest on."""
    promoted, forecast = ~np.isnan(known[2]), np.array(list(forecasts.values()))
    if promoted.sum() < MIN_LINE:
        return forecasts
    gains = np.maximum(0.0, forecast - known[0])
    wrong = ((known[2] - forecast)[promoted] ** 2).sum() / max(1e-9, (gains[promoted] ** 2).sum())
    hopes = forecast + HOPE * min(1.0, math.sqrt(wrong)) * gains
    return dict(zip(forecasts, hopes.tolist(), strict=True))


def _point(domain: Domain, value: Any) -> list[float]:
    """Return a parameter's value as numbers.

    For numbers they are its place between the ends of its domain, or among its options, from 0 to
    1, and a 0; if the parameter is not there, 0 and 1. For options without an order there is a
    number for each option.
    """
    known = list(domain.values if isinstance(domain, Choice) else domain.extremes)
    if not all(
        isinstance(option, int | float) and not isinstance(option, bool) for option in known
    ):
        # With this factor, two different options are at a distance of 1.
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
