"""The rule of `asha`: trials wait at rungs, and those that may be the best continue.

Rungs are epochs, each twice the one before (`search.schedulers.rungs`), as in asynchronous
successive halving (Li et al. 2018, arXiv 1810.05934). How many trials continue from a rung is not a
fixed share: at each decision every training that waits gets a chance to be the best of all, and
the promise of `--sure P` is kept by adding these chances up.

The model
    A conditional logit (McFadden 1974). Training i has the utility u_i = sum of coefficient times
    feature, the best completed training has 0. The chance that i becomes the best is
    exp(u_i) / (sum of exp(u_j) over all that are not completed + 1 if any is completed).
    "Best" means better at its end than the best completed one by more than the standard error of
    its value: to miss a better one within noise loses nothing.

The features of a training whose last rung is at epoch e, of a trial with E epochs
    at a rung       1, for all that are not completed
    to go           log2(E / e), the doublings that are left
    completed       log(1 + number of completed trainings)
    order           log of the chance to be the best by its place at e (`Order`), which measures
                    in this search how far curves cross between rungs; at least -12
    forecast        log of the chance to end above the best value so far, by a forecast from the
                    value, its last gain, and what others gained (`Forecaster`); at least -12
    came            -log(number of trainings that came to e)
    left            log(1 + number of trainings that continued from e)
    before drop     1 if the learning rate still drops by a fixed schedule after e, otherwise 0
    order before    order times before drop: before a drop places say less of the end
    No feature has the unit of the metric, so that a table fitted on some metrics holds for others.
    Left out one at a time, the log loss on suites left out (1.84 in the mean) rises by 0.055 for
    forecast, 0.027 order, 0.024 to go, 0.024 left, 0.015 at a rung; by 0.05 on the residual nets
    without the last two. Completed, came and before drop change it by less than 0.006 each.

The coefficients
    `coefficients.json`, one number for each feature, is fitted to recorded and made-up learning
    curves by `python -m tests.bench.fit_stopping`, which can also fit the journals of a user. It
    has the seed of the fit and the hashes of its data, and for each suite of curves how often the
    best was stopped by coefficients fitted without it, beside the chance that was told.

The decisions
    Next is the training with the highest chance per epoch to its next rung. A new one is as likely
    as any before to be the best, so its chance per epoch is 1 / (all epochs so far), times
    `NEW_GAIN`, times the frequency of recent records. When no new trial is left, the search ends
    once one is completed and the chances of those that wait add up to at most 1 - P. That sum is
    the risk that is reported. A trial that waits keeps its checkpoint: if later curves show that
    places cross more than they seemed to, it continues.
    Where networks should cost little too (`--objective`), places and the best value so far are
    those among the trainings that cost no more. Several are the best then, each at its cost: 1 - P
    is divided by the number of completed ones that lead, and no risk is reported.
"""

import json
import math
from collections.abc import Callable
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
"""The worth of a new trial's chance, relative to that of one that waits: it also teaches the
sampler and shows where others stand. It decides what a search that is cut off early has found.
"""
LEAST_LOG = -12.0
"""The least log of a chance as a feature, so that no training is ruled out by one of them."""
MIN_CHANCE = 0.0001
"""A smaller chance is reported as less than this one."""


class Asha(Scheduler):
    """The rule, with a coefficient for each of `FEATURES`: by default the package's table."""

    def __init__(self, setting: Setting, coefficients: dict[str, float] | None = None) -> None:
        self.horizon, self.risked, self.highest = setting.horizon, 1 - setting.sure, setting.highest
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
        self.standings.begin(trial, training, course or TrialCourse(self.horizon))
        self._chances = None

    def cost(self, trial: str, costs: Costs) -> None:
        """Receive the costs of a trial's network: from now on places depend on them."""
        self.standings.set_costs(trial, costs)
        self._chances = None

    def on_epoch(self, trial: str, epoch: int, value: float) -> bool:
        """Receive a trial's value after an epoch; return True at a rung, where the trial waits."""
        self._chances = None
        return self.standings.arrive(trial, epoch, value)

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

        A trial whose next epochs another one of its training has, or will have, comes first.
        """
        if (shared := next(filter(fits, self.standings.covered()), None)) is not None:
            return shared
        rates = self._rates()
        best = rates.max(initial=0.0)
        if new and best < NEW_GAIN * self._record_rate() / max(1, self.standings.spent):
            return NEW
        if not new and not self._is_risky():
            return None
        for number in np.argsort(-rates, kind="stable")[: np.count_nonzero(rates)].tolist():
            for trial in self.standings.waiting(number):
                if fits(trial):
                    return trial
        return NEW if new else None

    def _rates(self) -> Array:
        """Return each training's chance to be the best per epoch to its next rung.

        It is 0 for those that do not wait.
        """
        standings = self.standings
        level = np.maximum(standings.level, 0)
        following = np.minimum(self.ends[np.minimum(level + 1, len(self.rungs))], standings.epochs)
        leg = np.maximum(1, following - self.ends[level])
        rates: Array = np.where(standings.waits, self.chances() / leg, 0.0)
        return rates

    def _record_rate(self) -> float:
        """Return the number of recent trainings that were the best so far, relative to chance.

        It is counted in the later half of those that came to the first rung. By chance that half
        has log(2) on average. One is added to both, so that a few trainings say little.
        """
        values = self.standings.values[0]
        values = values[~np.isnan(values)]
        if len(values) < 2:
            return 1.0
        best = np.maximum.accumulate(values)[len(values) // 2 - 1 :]
        return float(1 + np.count_nonzero(np.diff(best))) / (1 + math.log(2))

    def _is_risky(self) -> bool:
        """True unless those that wait have little chance together, and one is or gets completed."""
        waits, is_led = self.standings.waits, self.standings.is_completed | self.standings.runs
        is_likely = float(self.chances()[waits].sum()) > self._acceptable
        return bool(waits.any()) and (is_likely or not is_led.any())

    @property
    def _acceptable(self) -> float:
        """The acceptable sum of chances; with costs it is shared by all that lead at some cost."""
        standings = self.standings
        leaders = int(np.count_nonzero(standings.is_completed & standings.is_on_front))
        return self.risked / (max(1, leaders) if len(standings.costs) else 1)

    @property
    def ready(self) -> int:
        """The least number of waiting trials that would have to continue."""
        if not self._is_risky():
            return 0
        least_likely_first = np.sort(self.chances()[self.standings.waits])
        return max(1, int(np.count_nonzero(np.cumsum(least_likely_first) > self._acceptable)))

    @property
    def risk(self) -> Risk | None:
        """The risk in the trials that wait or were stopped; None where it is not known.

        The chances are added up. Those with the most chance per epoch would halve the sum.
        """
        standings = self.standings
        numbers = np.flatnonzero(standings.waits | standings.is_stopped)
        if len(standings.costs) or not len(numbers):
            return None
        chances = self.chances()[numbers]
        level = standings.level[numbers]
        legs = (self.ends[level + 1] - self.ends[level]).astype(float)
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
        count = int(np.count_nonzero(~np.isnan(places)))
        text = f"place {math.floor(places[number])} of {count} at epoch {rung}"
        if len(self.standings.costs):
            return Stop(f"{text} (cost included)", rung=rung, rivals=count)
        is_further = self.standings.level[number] > runner.level
        chance = 0.0 if is_further else float(self.chances()[number])
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
                if highest.max() >= self.highest and not len(self.standings.costs):
                    self._chances[highest < self.highest] = 0.0  # none of these can be better
        return self._chances

    def features(self) -> tuple[NDArray[np.intp], Array]:
        """Return the numbers of the trainings that are at a rung, and their features.

        The features have the shape (trainings, `FEATURES`). All are computed again after each event
        from arrays; orders and forecasts only at rungs where something has changed since.
        """
        standings = self.standings
        numbers = np.flatnonzero(standings.waits | standings.runs | standings.is_stopped)
        level = standings.level[numbers]
        came = np.count_nonzero(~np.isnan(standings.values[:-1]), axis=1)
        stay = np.bincount(level[~standings.runs[numbers]], minlength=len(came))
        order = np.zeros(len(numbers))
        for rung in np.unique(level).tolist():
            here = level == rung
            order[here] = self.orders.at(rung).log_chances(standings.places[rung, numbers[here]])
        order = np.maximum(LEAST_LOG, order)
        epoch = self.ends[level]
        drop, end = standings.last_drop[numbers], standings.epochs[numbers]
        is_before_drop = (epoch <= drop) & (drop < end)
        return numbers, np.column_stack(
            [
                np.ones(len(numbers)),
                np.log2(np.maximum(end / epoch, 1.0)),
                np.full(len(numbers), math.log1p(np.count_nonzero(standings.is_completed))),
                order,
                self._log_chances_to_lead(numbers),
                -np.log(came[level]),
                np.log1p((came - stay)[level]),
                is_before_drop,
                order * is_before_drop,
            ]
        )

    def _log_chances_to_lead(self, numbers: NDArray[np.intp]) -> Array:
        """Return the log of each training's chance to end above the best value so far.

        By more than the standard error of that value, and at no more cost.
        """
        if not len(numbers):
            return np.zeros(0)
        best = self.standings.best_at_no_more(numbers)
        error = self.error_of(float(best.max()))
        return np.maximum(
            LEAST_LOG, self.forecaster.log_chances_above(numbers, best + error, error)
        )


def ordinal(number: int) -> str:
    """Return `1st`, `2nd`, `3rd`, `11th`."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10)
    return f"{number}{ending or 'th'}"
