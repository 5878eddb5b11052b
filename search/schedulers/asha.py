"""Asynchronous successive halving that promotes, and learns from its curves how many to promote.

Trials wait at rungs, epochs 1, 2, 4, 8 ...; of those that wait, some go on to the next (Li et al. 2018, arXiv 1810.05934, who promote the
best third at each rung). A fixed share is too few where curves separate late, and too many where they do not. Here it is measured:

    Forecast    What a trial will come to is its value, plus what trials like it (near in params and value) have gained since they were where it
                is, each judged without its own gain (`search.schedulers.forecast`).
    Depth       Where did those that lead at later rungs stand, by that forecast, at this one? If on average they were among the first
                `mu`, the chance that the best stands at place `d` is about exp(-d / mu) / mu, and the first `mu` go on. The worst `mu` over
                all later rungs counts, so that late crossings are seen; those that came far early, when few had come, are who shows them.
    Floors      At least `LEAST` go on from a rung, and while more epochs went into first ones than into the next leg, nearly half.
    Trainings   Trials that differ in their number of epochs alone are one training: they stand at one place, and count once.
    Order       As many epochs go into each rung's trials as into any other's, and twice as many as into all of them into new ones, while there
                are any: early answers, little waste.

Where networks are to cost little too (`--objective`), the order is in turn by forecast alone and by front, and none is left behind at a rung of
which no other is as good by forecast and costs no more.

A trial that waits has lost nothing: when the leaders turn out to come from further behind, it goes on from its checkpoint.
"""

import math
from collections.abc import Callable
from itertools import pairwise

from search.objectives import Costs, in_turn
from search.schedulers.base import NEW, Scheduler, Setting, Stop
from search.schedulers.forecast import Forecaster
from search.space import Params

REDUCTION = 2
LEADERS = 3
"""How many of a rung are its leaders."""
LEAST = 3
CUT_OFF = 5
"""How soon a mean place counts as one of a distribution that is cut off; 3 is exact near the middle, where it is noisy."""
BALANCED_SHARE = 0.45
"""What part of a rung goes on at least, as long as no more epochs are spent from there to the next than on the first of all trainings."""
NEW_SHARE, NEW_AHEAD = 2.0, 4
"""New trials get so many times the epochs of all that go on, and a few are always ahead."""
KEPT = 0.6
"""What part of a rung goes on, roughly, on recorded curves: for plans."""


class Asha(Scheduler):
    """Rungs from `grace`, by default 1, each twice the one before, up to the longest trial."""

    def __init__(self, setting: Setting) -> None:
        self.horizon = setting.horizon
        self.rungs = rungs_for(setting.horizon, setting.grace or 1)
        self.legs = [after - before for before, after in pairwise([0, *self.rungs, self.horizon])]
        self.waiting: list[dict[str, None]] = [{} for _ in self.rungs]
        """The trials at each rung; those below that are not said to be of trials are of trainings."""
        self.forecaster = Forecaster(setting.space, len(self.rungs))
        self.training: dict[str, str] = {}
        """Of each trial."""
        self.hopeful: dict[str, set[str]] = {}
        """Of each training those of its trials that have not come to nothing."""
        self.come: dict[str, int] = {}
        """How far each trial came,"""
        self.furthest: dict[str, int] = {}
        """and each training."""
        self.costs: dict[str, Costs] = {}
        self.gone: list[set[str]] = [set() for _ in self.rungs]
        """Those that have gone on from each rung."""
        self._places: list[dict[str, int]] = []
        """At each rung, where each stands by its forecast, from 1; empty when that must be found anew, with what follows from it."""
        self._fronts: list[int] = []
        """The place of the last of them than which none is better."""
        self._means: list[float] = []

    def begin(self, trial: str, params: Params, training: str) -> None:
        """One more."""
        self.training[trial] = training
        if training not in self.hopeful:
            self.forecaster.begin(training, params)
        self.hopeful.setdefault(training, set()).add(trial)

    def cost(self, trial: str, costs: Costs) -> None:
        """It is compared with others by that too."""
        self.costs[self.training[trial]] = costs

    def on_epoch(self, trial: str, epoch: int, value: float) -> bool:
        """Wait at a rung."""
        self._come(trial, epoch)
        if epoch not in self.rungs:
            return False
        level = self.rungs.index(epoch)
        self.forecaster.hear(self.training[trial], level, value)
        self.waiting[level][trial] = None
        self._places = []
        return True

    def go_on(self, trial: str) -> None:
        """It waits no more."""
        if (level := self._level(trial)) is not None:
            del self.waiting[level][trial]
            self.gone[level].add(self.training[trial])

    def end(self, trial: str, outcome: str, value: float) -> None:
        """It will not go on. One that was stopped keeps its place; one that came to nothing stands in nobody's way."""
        for waiting in self.waiting:
            waiting.pop(trial, None)
        training = self.training[trial]
        if outcome == "completed":
            if self.come[trial] == self.furthest[training]:
                self.forecaster.hear(training, len(self.rungs), value)
        elif outcome != "stopped":
            self.hopeful[training].discard(trial)
            if not self.hopeful[training]:
                self.forecaster.forget(training)
        self._places = []

    def choose(self, *, new: bool, fits: Callable[[str], bool] = lambda trial: True) -> str | None:
        """Of the rung, or the new trials, on which the fewest epochs were spent."""
        spent = [leg * count for leg, count in zip(self.legs, [len(self.hopeful), *map(len, self.gone)], strict=True)]
        if new and spent[0] <= NEW_SHARE * sum(spent[1:]) + NEW_AHEAD * self.legs[0]:
            return NEW
        first = {level: trial for level in range(len(self.rungs)) if (trial := self._first(level, fits)) is not None}
        if not first:
            return NEW if new else None
        return first[min(first, key=lambda level: (spent[level + 1], level))]

    @property
    def ready(self) -> int:
        """Those that stand where the best of all may."""
        return sum(self._place(level, trial) <= self._depth(level) for level, waiting in enumerate(self.waiting) for trial in waiting)

    def why(self, trial: str) -> Stop:
        """Where it stands among those that came to its rung."""
        if (level := self._level(trial)) is None:
            return Stop("the rung that it waited at is none any more")
        place, count, depth = self._place(level, trial), len(self._placed[level]), self._depth(level)
        told = f"place {place} of {count} at epoch {self.rungs[level]} by forecast" + (" and cost" if self.costs else "")
        if place <= depth:
            return Stop(f"{told}; others train first", rung=self.rungs[level], rivals=count)
        told = f"{told}, of which {math.floor(depth)} go on"
        if not any(self.forecaster.values[level + 1 :]):
            return Stop(told, rung=self.rungs[level], rivals=count)
        mean = max(LEAST, self._means[level])
        risk = math.exp(-(place - 1) / mean) / mean
        reason = f"{told}; the chance that it would be {'one of the best' if self.costs else 'the best'} is at most about {100 * risk:.2g} %"
        return Stop(reason, rung=self.rungs[level], rivals=count, risk=round(risk, 6))

    def _come(self, trial: str, epoch: int) -> None:
        """It has come so far, and its training is not at its end where that was a shorter trial's."""
        training, self.come[trial] = self.training[trial], epoch
        if epoch > self.furthest.get(training, 0):
            self.furthest[training] = epoch
            if self.forecaster.values[-1].pop(training, None) is not None:
                self._places = []

    def _level(self, trial: str) -> int | None:
        return next((level for level, waiting in enumerate(self.waiting) if trial in waiting), None)

    def _first(self, level: int, fits: Callable[[str], bool]) -> str | None:
        """The best of those that wait at a rung and fit, if it stands where the best of all may."""
        best = min(filter(fits, self.waiting[level]), key=lambda trial: self._place(level, trial), default=None)
        return best if best is not None and self._place(level, best) <= self._depth(level) else None

    def _place(self, level: int, trial: str) -> int:
        """Where it stands at this rung."""
        return self._placed[level][self.training[trial]]

    @property
    def _placed(self) -> list[dict[str, int]]:
        if not self._places:
            ordered = [in_turn(forecasts, self.costs) for forecasts in self.forecaster.forecasts()]
            self._places = [{training: place for place, training in enumerate(trainings, 1)} for trainings, _, _ in ordered]
            self._fronts = [last for _, _, last in ordered]
            self._means = [self._mean_place(level) for level in range(len(self.rungs))]
        return self._places

    def _depth(self, level: int) -> float:
        """How many places go on from a rung."""
        affordable, share = len(self.hopeful) * self.legs[0] / self.legs[level + 1], BALANCED_SHARE * len(self._placed[level])
        return max(LEAST, self._fronts[level], self._means[level], min(share, affordable))

    def _mean_place(self, level: int) -> float:
        """Where the leaders of a later rung stood at this one: 1 if in the same order, the worst over all later rungs."""
        places, mean = self._places[level], 1.0
        for number, later in enumerate(self.forecaster.values[level + 1 :]):
            ordered, front, _ = in_turn({training: value for training, value in later.items() if training in places}, self.costs)
            if ordered:
                stood = mean_place([places[training] for training in ordered], max(LEADERS, front), is_next=number == 0)
                mean = max(mean, min(stood, len(places)))
        return mean


def mean_place(came: list[int], leading: int, *, is_next: bool) -> float:
    """Where so many leaders of a later rung stood: 1 if in order. `came` are the places of all that came there, the leaders first.

    If at the next rung the leaders are from anywhere among those that went there, they may be from anywhere behind them too: of an exponential
    distribution that is cut off, the mean tells less and less the nearer it is to the middle, and there nothing.
    """
    leaders = min(leading, len(came))
    in_order = (leaders - 1) / 2
    stood, all_of_them = sum(came[:leaders]) / leaders - in_order, sum(came) / len(came) - in_order
    if not is_next or len(came) < 2 * leaders:
        return stood
    return stood / max(1e-9, 1 - (stood / all_of_them) ** CUT_OFF)


def rungs_for(horizon: int, first: int) -> list[int]:
    """`first`, twice that, and so on; the last is well below the horizon."""
    rungs = [first]
    while rungs[-1] * REDUCTION < horizon:
        rungs.append(rungs[-1] * REDUCTION)
    while rungs and rungs[-1] * math.sqrt(REDUCTION) > horizon:
        rungs.pop()
    return rungs


def expected_epochs(epochs: int, horizon: int, grace: int | None = None) -> float:
    """Of a trial of so many epochs, in the mean, when each rung keeps as many as usual."""
    spent, share, last = 0.0, 1.0, 0
    for rung in [*(rung for rung in rungs_for(horizon, grace or 1) if rung < epochs), epochs]:
        spent += share * (rung - last)
        share, last = share * KEPT, rung
    return spent
