"""The rule of `asha`: trials wait at rungs, and those most likely to be the best continue.

Rungs are epochs (`search.schedulers.rungs`): the first is a hundredth of the longest trial, each
further one twice the one before, as in asynchronous successive halving (Li et al. 2018, arXiv
1810.05934). The number of trials that continue from a rung is not fixed. At each decision, every
training that waits gets a probability to be the best of all; the promise of `--sure P` is kept by
continuing until the probabilities of those that wait add up to at most 1 - P.

A *training* is one trial, or several that differ only in their number of epochs and share them.

The model
    A conditional logit (McFadden 1974). Training i has the utility u_i, the sum of coefficient
    times feature; the best completed training has the utility 0. The probability of i to be the
    best is exp(u_i) / (sum of exp(u_j) over all that have reached a rung, but are not completed
    + 1 if any is completed).
    "Best" means better at its end than the best completed one by more than the standard error of
    its value: missing a training that is better within noise costs nothing.

The features of a training whose last rung is at epoch e, and whose full length is E epochs
    at a rung       1 (the intercept: how likely one is that is not completed)
    to go           log2(E / e), the number of doublings that remain
    completed       log(1 + number of completed trainings)
    order           log of the probability to be the best, from its place at e only
                    (`search.schedulers.order` measures in this search how far curves cross
                    between rungs); at least -12
    forecast        log of the probability to end above the best value so far, completed or not, by
                    more than its standard error: a forecast from the value, its last gain, and the
                    gains of others (`search.schedulers.forecast`); at least -12
    came            -log(number of trainings that reached e)
    left            log(1 + number of trainings that continued from e)
    before drop     1 if the learning rate still drops by a step schedule at or after e, otherwise 0
    order before    order times before drop: before a drop, places say less about the end
    No feature has the unit of the metric, so a table fitted on some metrics holds for others.
    In an earlier fit, with one left out, the log loss on suites left out (1.84) rises by 0.055 for
    forecast, 0.027 order, 0.024 to go, 0.024 left, 0.015 at a rung; without the two of the learning
    rate it rises by 0.05 on the residual networks. Completed, came and before drop change it by
    less than 0.006 each.

The coefficients
    `coefficients.json` has one number for each feature, fitted to recorded and made-up learning
    curves by `python -m tests.bench.fit_stopping`, which can also fit the journals of a user. The
    file also has the seed of the fit, the hashes of its data, and, for each suite of curves, the
    share of searches that lost the best with coefficients fitted without that suite (happened),
    beside the risk that they reported (told).

The decisions
    The next training is the one with the highest probability per epoch to its next rung. A new one
    is as likely to be the best as any before, so its probability per epoch is 1 / (all epochs so
    far), times `NEW_GAIN`, times the rate of recent records (`_record_rate`). When no new trial
    remains, the search ends once one training is completed, or runs to its end, and the
    probabilities of those that wait add up to at most 1 - P. The sum over those that wait or were
    stopped is the reported risk. A trial that waits keeps its checkpoint: if later curves show that
    places change more than they seemed to, it continues.
    Networks that are still at chance have equal values, and share the mean of their places.
    With further objectives (`--objective`), places and the best value so far are those among the
    trainings that cost no more, or are at least as good in an objective that is measured after each
    epoch; there, values at the same rung are compared. There is then a best one at each cost: 1 - P
    is divided by the number of completed trainings on the front. No risk is reported, since it
    would not be that of one best training.

Features are computed again after each event but an epoch between two rungs, from arrays; orders
and forecasts only at rungs where a value has changed since.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.schedulers.base import NEW, Expected, Risk, Scheduler, Setting, Stop, TrialCourse
from search.schedulers.forecast import Forecaster
from search.schedulers.order import Orders
from search.schedulers.rungs import first_rung, rungs_for
from search.schedulers.standings import Array, Standings
from search.values.objectives import Costs
from trainables.values import Params

FEATURES = (
    "at a rung", "to go", "completed", "order", "forecast", "came", "left", "before drop",
    "order before",
)  # fmt: skip
COEFFICIENTS: dict[str, float] = json.loads(
    Path(__file__).with_name("coefficients.json").read_text("utf-8")
)["coefficients"]
NEW_GAIN = 2.5
"""The worth of a new trial's probability, relative to that of one that waits: it also teaches the
sampler, and shows the places of others. It matters most to a search that is cut off early.
"""
LEAST_LOG = -12.0
"""The least log of a probability as a feature, so that no single feature rules a training out."""
MIN_CHANCE = 0.0001
"""A smaller probability is reported as less than this one."""


class Asha(Scheduler):
    """The rule, with a coefficient for each of `FEATURES`: by default the package's table."""

    title, summary = "ASHA", "stop early the trials that are behind"

    def __init__(self, setting: Setting, coefficients: dict[str, float] | None = None) -> None:
        self.horizon, self.acceptable_risk = setting.horizon, 1 - setting.sure
        self.highest_possible = setting.highest
        self.rungs = rungs_for(setting.horizon, setting.grace or first_rung(setting.horizon))
        self.ends = np.array([*self.rungs, self.horizon])
        self.standings = Standings(self.rungs)
        self.forecaster = Forecaster(self.standings)
        self.orders = Orders(self.standings, self.horizon)
        self.coefficients = np.array([(coefficients or COEFFICIENTS)[name] for name in FEATURES])
        self._chances: Array | None = None
        """The chance of each training to be the best; None if anything was received since."""

    def begin(
        self, trial: str, params: Params, training: str, course: TrialCourse | None = None
    ) -> None:
        """Add a trial to its training."""
        is_known, columns = training in self.standings.numbers, len(self.standings.level)
        self.standings.begin(trial, training, course or TrialCourse(self.horizon))
        if is_known or len(self.standings.level) > columns:  # else it is at no rung, and has none
            self._chances = None

    def cost(self, trial: str, costs: Costs) -> None:
        """Receive the costs of a trial: places at its next rungs depend on them."""
        self.standings.set_costs(trial, costs)
        self._chances = None

    def on_epoch(self, trial: str, epoch: int, value: float) -> bool:
        """Receive a trial's value after an epoch; return True at a rung, where the trial waits."""
        is_at_rung = self.standings.arrive(trial, epoch, value)
        if is_at_rung or self.standings.trials[trial].training in self.standings.shared:
            self._chances = None
        return is_at_rung

    def go_on(self, trial: str) -> None:
        """Move a waiting trial from its rung to those that continued."""
        self.standings.leave(trial)
        self._chances = None

    def end(self, trial: str, outcome: str, value: float) -> None:
        """Receive the end of a trial. One that was stopped keeps its place."""
        self.standings.end(trial, outcome, value)
        self._chances = None

    def choose(self, *, new: bool, fits: Callable[[str], bool] = lambda trial: True) -> str | None:
        """Return the trial with the highest chance per epoch, `NEW`, or None if none is needed.

        A trial whose next epochs another trial of its training has run, or is running, comes first.
        """
        if (shared := next(filter(fits, self.standings.covered()), None)) is not None:
            return shared
        rates = self._rates()
        best = rates.max(initial=0.0)
        if new and best < NEW_GAIN * self._record_rate() / max(1, self.standings.spent):
            return NEW
        if not new and not self._is_risky():
            return None
        for number in _highest_first(rates):
            for trial in self.standings.waiting(number):
                if fits(trial):
                    return trial
        return NEW if new else None

    def _rates(self) -> Array:
        """Return each training's chance to be the best per epoch to its next rung.

        It is 0 for those that do not wait.
        """
        chances, numbers = self.chances(), np.flatnonzero(self.standings.waits)
        rates = np.zeros(len(chances))
        rates[numbers] = chances.take(numbers) / self._legs(numbers)
        return rates

    def _legs(self, numbers: NDArray[np.intp]) -> Array:
        """Return the number of epochs from these trainings' last rung to the next, or the end."""
        level = self.standings.level.take(numbers)
        following = np.minimum(self.ends.take(level + 1), self.standings.epochs.take(numbers))
        legs: Array = np.maximum(1.0, following - self.ends.take(level))
        return legs

    def _record_rate(self) -> float:
        """Return the number of recent trainings that were the best so far, relative to chance.

        It is counted in the later half of the trainings that reached the first rung. In random
        order, that half has log(2) records on average. One is added to both numbers, so that a few
        trainings say little.
        """
        values = self.standings.values[0].take(np.flatnonzero(self.standings.has_arrived[0]))
        if len(values) < 2:
            return 1.0
        middle = len(values) // 2
        best = np.maximum.accumulate(np.append(values[:middle].max(), values[middle:]))
        return float(1 + np.count_nonzero(np.diff(best))) / (1 + math.log(2))

    def _is_risky(self) -> bool:
        """True unless those that wait are unlikely to be the best, and one is completed or runs."""
        waits, has_leader = self.standings.waits, self.standings.is_completed | self.standings.runs
        is_likely = float(self.chances()[waits].sum()) > self._acceptable
        return bool(waits.any()) and (is_likely or not has_leader.any())

    @property
    def _acceptable(self) -> float:
        """The acceptable sum of probabilities; with costs, the trainings on the front share it."""
        standings = self.standings
        if not len(standings.costs):
            return self.acceptable_risk
        leaders = int(np.count_nonzero(standings.is_completed & standings.is_on_front))
        return self.acceptable_risk / max(1, leaders)

    @property
    def ready(self) -> int:
        """The number of waiting trials that must continue before the rest is an acceptable risk."""
        if not self._is_risky():
            return 0
        least_likely_first = np.sort(self.chances()[self.standings.waits])
        return max(1, int(np.count_nonzero(np.cumsum(least_likely_first) > self._acceptable)))

    @property
    def risk(self) -> Risk | None:
        """The risk in the trials that wait or were stopped; None where it is not known.

        Its chance is the sum of their probabilities. Its epochs are those to the next rung of the
        trainings with the highest probability per epoch that together have half of the sum.
        """
        standings = self.standings
        numbers = np.flatnonzero(standings.waits | standings.is_stopped)
        if len(standings.costs) or not len(numbers):
            return None
        chances = self.chances()[numbers]
        legs = self._legs(numbers)
        if not (total := float(chances.sum())):
            return None
        order = np.argsort(-chances / legs, kind="stable")
        count = 1 + int(np.searchsorted(np.cumsum(chances[order]), total / 2))
        epochs = int(legs[order[:count]].sum())
        return Risk(min(1.0, total), epochs, epochs / (standings.spent + epochs))

    @property
    def expected(self) -> dict[str, Expected]:
        """The forecast of each trial that has not ended; empty with costs."""
        standings = self.standings
        if len(standings.costs):
            return {}
        self.forecaster.update()
        is_open = (standings.level >= 0) & ~standings.is_completed
        return {
            trial: self.forecaster.expected(runner.training)
            for trial, runner in standings.trials.items()
            if is_open[runner.training]
        }

    def why(self, trial: str) -> Stop:
        """Return the place and the chance of a waiting trial as the reason why it waits."""
        runner = self.standings.trials[trial]
        if runner.level is None:
            return Stop("the rung where it waited does not exist any more")
        number, rung = runner.training, self.rungs[runner.level]
        places = self.standings.places[runner.level]
        count = int(np.count_nonzero(self.standings.has_arrived[runner.level]))
        text = f"place {math.floor(places[number])} of {count} at epoch {rung}"
        if len(self.standings.costs):
            return Stop(f"{text} (all objectives count)", rung=rung, rivals=count)
        is_past_rung = self.standings.level[number] > runner.level
        chance = 0.0 if is_past_rung else float(self.chances()[number])
        self.forecaster.update()
        means = self.forecaster.means
        better = int(np.count_nonzero(means > means[number]))
        chance_text = f"{chance:.2%}" if chance >= MIN_CHANCE else f"less than {MIN_CHANCE:.2%}"
        reason = f"{text}, forecast {ordinal(better + 1)}; {chance_text} chance to be the best"
        return Stop(reason, rung=rung, rivals=count, risk=round(chance, 6))

    def chances(self) -> Array:
        """Return the chance of each training to be the best of all.

        It is 0 for those that are at no rung, or completed.
        """
        if self._chances is None:
            numbers, features = self.features()
            utilities = features @ self.coefficients
            self._chances = np.zeros(len(self.standings.level))
            if len(numbers):
                top = max(utilities.max(), 0.0)  # subtracted, so that no exponential overflows
                weights = np.exp(utilities - top)
                completed = math.exp(-top) if self.standings.is_completed.any() else 0.0
                self._chances[numbers] = weights / (weights.sum() + completed)
                highest = self.standings.highest
                if highest.max() >= self.highest_possible and not len(self.standings.costs):
                    self._chances[highest < self.highest_possible] = (
                        0.0  # none of these can be better
                    )
        return self._chances

    def features(self) -> tuple[NDArray[np.intp], Array]:
        """Return the numbers of the trainings that are at a rung, and their features.

        The features have the shape (trainings, `FEATURES`). All are computed again after each event
        from arrays; orders and forecasts only at rungs where something has changed since. `take`
        and `compress` are up to three times as fast as indexing with numbers or a mask.
        """
        standings = self.standings
        numbers = np.flatnonzero(standings.waits | standings.runs | standings.is_stopped)
        level = standings.level.take(numbers)
        came = standings.arrivals[:-1]
        stay = np.bincount(level.compress(~standings.runs.take(numbers)), minlength=len(came))
        order = np.zeros(len(numbers))
        for rung in np.flatnonzero(np.bincount(level)).tolist():
            here = np.flatnonzero(level == rung)
            places = standings.places[rung].take(numbers.take(here))
            order[here] = self.orders.at(rung).log_chances(places)
        epoch = self.ends.take(level)
        drop, end = standings.last_drop.take(numbers), standings.epochs.take(numbers)
        features = np.empty((len(FEATURES), len(numbers)))  # a row each is faster to fill
        features[0] = 1.0
        np.log2(np.maximum(end / epoch, 1.0), out=features[1])
        features[2] = math.log1p(standings.arrivals[-1])
        np.maximum(LEAST_LOG, order, out=features[3])
        features[4] = self._log_chances_to_lead(numbers)
        features[5] = -np.log(np.maximum(came, 1)).take(level)
        features[6] = np.log1p(came - stay).take(level)
        features[7] = (epoch <= drop) & (drop < end)
        np.multiply(features[3], features[7], out=features[8])
        return numbers, features.T

    def _log_chances_to_lead(self, numbers: NDArray[np.intp]) -> Array:
        """Return the log of each training's chance to end above the best value so far.

        By more than the standard error of that value, and at no more cost.
        """
        if not len(numbers):
            return np.zeros(0)
        best = self.standings.best_at_no_more(numbers)
        error = self.error_of(float(best.max()))
        return self.forecaster.log_chances_above(numbers, best + error, error, LEAST_LOG)


def _highest_first(rates: Array) -> Iterator[int]:
    """Yield the numbers of all rates above 0; all but the first are sorted only if asked for."""
    if rates.any():
        yield int(rates.argmax())
        yield from np.argsort(-rates, kind="stable")[1 : np.count_nonzero(rates)].tolist()


def ordinal(number: int) -> str:
    """Return `1st`, `2nd`, `3rd`, `11th`."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10)
    return f"{number}{ending or 'th'}"
