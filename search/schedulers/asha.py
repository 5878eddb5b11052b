"""Asynchronous successive halving that promotes, and learns from its curves how many to promote.

Trials wait at rungs, epochs 1, 2, 4, 8 ...; of those that wait, some go on to the next (Li et al.
2018, arXiv 1810.05934, who promote the best third at each rung). A fixed share is too few where
curves separate late, and too many where they do not. Here it is measured:

    Forecast    What a trial will come to is its value, plus what trials like it (near in params and value) have gained since they were where it
                is, each judged without its own gain (`search.schedulers.forecast`).
    Depth       Where did those that lead at later rungs stand, by that forecast, at this one? If on average they were among the first
                `mu`, the chance that the best stands at place `d` is about (1 - q) q ** (d - 1), q
                = 1 - 1 / mu, and the first `mu` go on. The worst `mu` over all later rungs counts,
                so that late crossings are seen; those that came far early, when few had come, are
                who shows them.
    Floors      At least `MIN_PROMOTED` go on from a rung, and while more epochs went into first ones than into the next leg, nearly half.
    Trainings   Trials that differ in their number of epochs alone are one training: they stand at one place, and count once.
    Order       Whoever has the most chance to be the best for an epoch is next. Of those that wait it is that by place, for the epochs to the next rung.
                A new one is as likely as any before to be the best, so that for an epoch its chance
                is one over all epochs so far; more or less, as of the later half more or fewer were
                the best so far than by chance; and it counts `NEW_GAIN` times, for it also tells of
                others. So the leader of few is soon far ahead, and most epochs go into looking
                further.
    Sure        When nobody else is to go on, the chances of those that wait to be the best are added up: of each the geometric mean of that by
                its place and that by its outlook (`search.schedulers.forecast`), which is led
                astray where it is far from all that went on. While the sum is more than the user
                wants to risk, the one with the most chance for an epoch goes on. So an easy search
                ends soon, and a hard one trains what it needs.

Where networks are to cost little too (`--objective`), places are in turn by forecast alone and by
front, and none is left behind at a rung of which no other is as good by forecast and costs no more.
As many epochs go into each rung's trials as into any other's, and twice as many as into all of them
into new ones, while there are any.

A trial that waits has lost nothing: when the leaders turn out to come from further behind, it goes
on from its checkpoint.
"""

import math
from collections.abc import Callable, Collection, Mapping
from itertools import pairwise

from search.objectives import Costs, in_turn
from search.schedulers.base import NEW, Expected, Risk, Scheduler, Setting, Stop
from search.schedulers.forecast import Forecaster
from search.space import Params
from search.statistics import standard_error

REDUCTION = 2
LEADERS = 3
"""How many of a rung are its leaders."""
MIN_PROMOTED = 3
MIN_MEAN = 1.5
"""The mean place of the best is this at least: the few leaders that show it may have been lucky."""
CUT_OFF = 5
"""How soon a mean place counts as one of a distribution that is cut off; 3 is exact near the
middle, where it is noisy.
"""
BALANCED_SHARE = 0.45
"""What part of a rung goes on at least, as long as no more epochs are spent from there to the next
than on the first of all trainings.
"""
NEW_GAIN = 2.0
"""What a new trial's chance to be the best is worth, to that of one that waits."""
NEW_SHARE, NEW_AHEAD = 2.0, 4
"""Where networks are to cost little too, new trials get so many times the epochs of all that go on,
and a few are always ahead.
"""
FIRST_SHARE = 0.01
"""What part of the longest trial the first rung is, at least: before, hardly anything has been
learned of it.
"""
KEPT, KEPT_TO_BE_SURE = 0.6, 0.05
"""What part of a rung goes on, roughly, on recorded curves: for plans; and so much more the surer
one wants to be.
"""
NOISE_SHARE = 0.5
"""How much of a value's standard error is added to its outlook's deviation, which has most of it
already, so that it is never nothing.
"""
Stake = tuple[float, int]
"""A trial's chance to be the best of all, and the epochs to its next rung."""


class Asha(Scheduler):
    """Rungs from `grace`, by default a hundredth of the longest trial, each twice the one before,
    up to that.
    """

    def __init__(self, setting: Setting) -> None:
        self.horizon, self.risked = setting.horizon, 1 - setting.sure
        self.rungs = rungs_for(setting.horizon, setting.grace or first_rung(setting.horizon))
        self.legs = [after - before for before, after in pairwise([0, *self.rungs, self.horizon])]
        self.waiting: list[dict[str, None]] = [{} for _ in self.rungs]
        """The trials at each rung; those below that are not said to be of trials are of trainings."""
        self.stopped: list[dict[str, None]] = [{} for _ in self.rungs]
        """The trials that were stopped there."""
        self.forecaster = Forecaster(setting.space, len(self.rungs))
        self.training: dict[str, str] = {}
        """Of each trial."""
        self.live: dict[str, set[str]] = {}
        """Of each training those of its trials that have not come to nothing."""
        self.reached: dict[str, int] = {}
        """How far each trial came,"""
        self.furthest: dict[str, int] = {}
        """and each training."""
        self.costs: dict[str, Costs] = {}
        self.promoted: list[set[str]] = [set() for _ in self.rungs]
        """Those that have gone on from each rung."""
        self._is_past = True
        """Whether anything was heard since what is below was found."""
        self._forecasts: list[dict[str, float]] = [{} for _ in self.rungs]
        """Of each rung those, the very objects, by which its places were found."""
        self._places: list[dict[str, int]] = [{} for _ in self.rungs]
        """At each rung, where each stands by its forecast, from 1."""
        self._fronts: list[int] = [0 for _ in self.rungs]
        """The place of the last of them than which none is better."""
        self._means: list[float] = []
        self._chances: list[dict[str, float]] = []
        """At each rung, how likely each that has not gone on is the best of all, by its outlook
        alone.
        """
        self._stakes: dict[str, Stake] = {}

    def begin(self, trial: str, params: Params, training: str) -> None:
        """One more."""
        self.training[trial] = training
        if training not in self.live:
            self.forecaster.begin(training, params)
        self.live.setdefault(training, set()).add(trial)

    def cost(self, trial: str, costs: Costs) -> None:
        """It is compared with others by that too."""
        if self.costs.get(training := self.training[trial]) != costs:
            self.costs[training] = costs
            self._forecasts, self._is_past = [{} for _ in self.rungs], True

    def on_epoch(self, trial: str, epoch: int, value: float) -> bool:
        """Wait at a rung."""
        self._come(trial, epoch)
        if epoch not in self.rungs:
            return False
        level = self.rungs.index(epoch)
        self.forecaster.hear(self.training[trial], level, value)
        self.waiting[level][trial] = None
        self._is_past = True
        return True

    def go_on(self, trial: str) -> None:
        """It waits no more."""
        if (level := self._level(trial)) is not None:
            del self.waiting[level][trial]
            self.promoted[level].add(self.training[trial])
            self._stakes = {}

    def end(self, trial: str, outcome: str, value: float) -> None:
        """It will not go on. One that was stopped keeps its place; one that came to nothing stands
        in nobody's way.
        """
        if (level := self._level(trial)) is not None:
            del self.waiting[level][trial]
            if outcome == "stopped":
                self.stopped[level][trial] = None
        training = self.training[trial]
        if outcome == "completed":
            if self.reached[trial] == self.furthest[training]:
                self.forecaster.hear(training, len(self.rungs), value)
        elif outcome != "stopped":
            self.live[training].discard(trial)
            if not self.live[training]:
                self.forecaster.forget(training)
        self._is_past = True

    def choose(self, *, new: bool, fits: Callable[[str], bool] = lambda trial: True) -> str | None:
        """Whoever gains most for an epoch, of those that stand where the best may and new ones; if
        there is nobody, whoever it is too risky to stop.
        """
        due = self._due(new, fits)
        return self._risky(fits) if due is None else due

    def _due(self, new: bool, fits: Callable[[str], bool]) -> str | None:
        """Who stands where the best of all may, or a new one."""
        if self.costs:
            return self._in_shares(new, fits)
        first = [
            (level, trial)
            for level in range(len(self.rungs))
            if (trial := self._first(level, fits)) is not None
        ]
        gain = {
            trial: self._by_place(level, trial) / self.legs[level + 1] for level, trial in first
        }
        best = max(gain, key=gain.__getitem__, default=None)
        return (
            NEW
            if new and (best is None or gain[best] < NEW_GAIN * self._news / self._spent)
            else best
        )

    def _in_shares(self, new: bool, fits: Callable[[str], bool]) -> str | None:
        """The same where networks are to cost little too, many are the best, and a chance to be one
        of them tells little: of the rung, or the new trials, on which the fewest epochs were spent.
        """
        spent = self._spent_by_rung
        if new and spent[0] <= NEW_SHARE * sum(spent[1:]) + NEW_AHEAD * self.legs[0]:
            return NEW
        first = {
            level: trial
            for level in range(len(self.rungs))
            if (trial := self._first(level, fits)) is not None
        }
        if not first:
            return NEW if new else None
        return first[min(first, key=lambda level: (spent[level + 1], level))]

    @property
    def _news(self) -> float:
        """How many times as often as by chance those of the later half that came to the first rung
        were the best so far: of n after half of them, that is the logarithm of 2 on average. One is
        added to both, so that a few say little.
        """
        values = list(self.forecaster.values[0].values())
        best, records = max(values[: len(values) // 2], default=math.inf), 0
        for value in values[len(values) // 2 :]:
            if value > best:
                best, records = value, records + 1
        return (1 + records) / (1 + math.log(2))

    @property
    def _spent(self) -> int:
        """The epochs of all so far; one that is on its way to a rung counts as if it were there."""
        return sum(self._spent_by_rung)

    @property
    def _spent_by_rung(self) -> list[int]:
        """The same on the way to each rung, and from the last one to the end."""
        return [
            leg * count
            for leg, count in zip(
                self.legs, [len(self.live), *map(len, self.promoted)], strict=True
            )
        ]

    @property
    def ready(self) -> int:
        """Those that stand where the best of all may, and those with a chance while it is too risky
        to stop them all.
        """
        risky = (
            {trial for trial, (chance, _) in self._staked.items() if chance}
            if self._is_risky
            else set[str]()
        )
        due = {
            trial
            for level, waiting in enumerate(self.waiting)
            for trial in waiting
            if self._place(level, trial) <= self._depth(level)
        }
        return len(risky | due)

    @property
    def risk(self) -> Risk | None:
        """Added up over those that wait or were stopped; those with the most chance for an epoch
        would halve it by going on to their next rungs.
        """
        stakes = (
            self._by_training({**self._stakes_of(self.waiting), **self._stakes_of(self.stopped)})
            if not self.costs
            else ()
        )
        total, epochs = sum(chance for chance, _ in stakes), 0
        left = total - min(1.0, total) / 2
        for chance, leg in sorted(stakes, key=lambda stake: stake[1] / max(stake[0], 1e-12)):
            if left <= 0:
                break
            left, epochs = left - chance, epochs + leg
        return Risk(min(1.0, total), epochs, epochs / (self._spent + epochs)) if total else None

    def _risky(self, fits: Callable[[str], bool]) -> str | None:
        """Of those that wait, the one with the most chance for an epoch, while they have too much
        together.
        """
        if not self._is_risky:
            return None
        gain = {
            trial: chance / leg
            for trial, (chance, leg) in self._staked.items()
            if chance and fits(trial)
        }
        return max(gain, key=gain.__getitem__, default=None)

    @property
    def _is_risky(self) -> bool:
        """Whether those that wait have more chance together than the user wants to risk."""
        return (
            self.risked < 1
            and not self.costs
            and sum(chance for chance, _ in self._by_training(self._staked)) > self.risked
        )

    @property
    def _staked(self) -> dict[str, Stake]:
        """The stakes of those that wait."""
        if self._placed and not self._stakes:
            self._stakes = self._stakes_of(self.waiting)
        return self._stakes

    def _stakes_of(self, those: list[dict[str, None]]) -> dict[str, Stake]:
        """Of each of those trials, by rung, the chance that it is the best of all, and the epochs
        to its next rung.
        """
        return {
            trial: (self._chance(level, trial), self.legs[level + 1])
            for level, trials in enumerate(those)
            for trial in trials
        }

    def _by_training(self, stakes: Mapping[str, Stake]) -> Collection[Stake]:
        """The same of each training once, where its chance is highest."""
        found: dict[str, Stake] = {}
        for trial, stake in stakes.items():
            found[self.training[trial]] = max(stake, found.get(self.training[trial], stake))
        return found.values()

    def why(self, trial: str) -> Stop:
        """Where it stands among those that came to its rung."""
        if (level := self._level(trial)) is None:
            return Stop("the rung that it waited at is none any more")
        place, count, depth = (
            self._place(level, trial),
            len(self._placed[level]),
            self._depth(level),
        )
        told = f"place {place} of {count} at epoch {self.rungs[level]} by forecast" + (
            " and cost" if self.costs else ""
        )
        if place <= depth:
            return Stop(f"{told}; others train first", rung=self.rungs[level], rivals=count)
        told = f"{told}, of which {math.floor(depth)} go on"
        if not self._is_known(level):
            return Stop(told, rung=self.rungs[level], rivals=count)
        risk = self._chance(level, trial)
        reason = f"{told}; the chance that it would be {'one of the best' if self.costs else 'the best'} is about {100 * risk:.2g} %"
        return Stop(reason, rung=self.rungs[level], rivals=count, risk=round(risk, 6))

    def _is_known(self, level: int) -> bool:
        """Whether anybody has come further, to tell what becomes of those at this rung."""
        return any(self.forecaster.values[level + 1 :])

    def _chance(self, level: int, trial: str) -> float:
        """How likely a trial that waits there would have been the best of all; 0 where nothing is
        known, or where another of its training has gone on.
        """
        if not self._is_known(level) or self.training[trial] in self.promoted[level]:
            return 0.0
        by_place = self._by_place(level, trial)
        by_outlook = (
            self._chances[level].get(self.training[trial], 0.0)
            if self._chances[level]
            else by_place
        )
        return math.sqrt(by_place * by_outlook)

    def _by_place(self, level: int, trial: str) -> float:
        """The same as far as its place tells."""
        place = self._place(level, trial)
        further = 1 - 1 / max(MIN_MEAN, self._means[level])
        return (1 - further) * further ** (place - 1)

    def _come(self, trial: str, epoch: int) -> None:
        """It has come so far, and its training is not at its end where that was a shorter trial's."""
        training, self.reached[trial] = self.training[trial], epoch
        if epoch > self.furthest.get(training, 0):
            self.furthest[training] = epoch
            self._is_past |= self.forecaster.unhear(training, len(self.rungs))

    def _level(self, trial: str) -> int | None:
        return next((level for level, waiting in enumerate(self.waiting) if trial in waiting), None)

    def _first(self, level: int, fits: Callable[[str], bool]) -> str | None:
        """The best of those that wait at a rung and fit, if it stands where the best of all may."""
        if not self.waiting[level]:
            return None
        places, depth = self._placed[level], self._depth(level)
        due = sorted(
            (place, number, trial)
            for number, trial in enumerate(self.waiting[level])
            if (place := places[self.training[trial]]) <= depth
        )
        return next((trial for _, _, trial in due if fits(trial)), None)

    def _place(self, level: int, trial: str) -> int:
        """Where it stands at this rung."""
        return self._placed[level][self.training[trial]]

    @property
    def _placed(self) -> list[dict[str, int]]:
        if self._is_past:
            self._is_past = False
            for level, forecasts in enumerate(self.forecaster.forecasts()):
                if forecasts is not self._forecasts[level]:
                    ordered, _, self._fronts[level] = in_turn(forecasts, self.costs)
                    self._places[level] = {
                        training: place for place, training in enumerate(ordered, 1)
                    }
                    self._forecasts[level] = forecasts
            self._means = [self._mean_place(level) for level in range(len(self.rungs))]
            self._chances, self._stakes = self._by_outlook(), {}
        return self._places

    def _by_outlook(self) -> list[dict[str, float]]:
        """At each rung, how likely those that wait there come to more than the best so far, by more
        than its standard error; empty where nothing is known.
        """
        if self.costs:
            return [{} for _ in self.rungs]
        best = max(
            (value for values in self.forecaster.values for value in values.values()), default=0.0
        )
        error = standard_error(best, self.images) if self.images else 0.0
        return [
            outlook.chances(best + error) if outlook else {}
            for outlook in self.forecaster.outlooks(NOISE_SHARE * error)
        ]

    @property
    def expected(self) -> dict[str, Expected]:
        """Of each by the last rung that its training has come to; of none where networks are to
        cost little too.
        """
        found = self.forecaster.expected() if self._placed and not self.costs else {}
        return {
            trial: found[training] for trial, training in self.training.items() if training in found
        }

    def _depth(self, level: int) -> float:
        """How many places go on from a rung."""
        affordable, share = (
            len(self.live) * self.legs[0] / self.legs[level + 1],
            BALANCED_SHARE * len(self._placed[level]),
        )
        return max(MIN_PROMOTED, self._fronts[level], self._means[level], min(share, affordable))

    def _mean_place(self, level: int) -> float:
        """Where the leaders of a later rung stood at this one: 1 if in the same order, the worst
        over all later rungs.
        """
        places, mean = self._places[level], 1.0
        for later in range(level + 1, len(self.rungs) + 1):
            came, front = (
                [training for training in self.forecaster.ordered(later) if training in places],
                1,
            )
            if self.costs:
                came, front, _ = in_turn(
                    {training: self.forecaster.values[later][training] for training in came},
                    self.costs,
                )
            if came:
                stood = mean_place(
                    [places[training] for training in came],
                    max(LEADERS, front),
                    is_next=later == level + 1,
                )
                mean = max(mean, min(stood, len(places)))
        return mean


def mean_place(came: list[int], leading: int, *, is_next: bool) -> float:
    """Where so many leaders of a later rung stood: 1 if in order. `came` are the places of all that
    came there, the leaders first.

    If at the next rung the leaders are from anywhere among those that went there, they may be from
    anywhere behind them too: of an exponential distribution that is cut off, the mean tells less
    and less the nearer it is to the middle, and there nothing.
    """
    leaders = min(leading, len(came))
    in_order = (leaders - 1) / 2
    stood, all_of_them = sum(came[:leaders]) / leaders - in_order, sum(came) / len(came) - in_order
    if not is_next or len(came) < 2 * leaders:
        return stood
    return stood / max(1e-9, 1 - (stood / all_of_them) ** CUT_OFF)


def first_rung(horizon: int) -> int:
    """Where trials first wait, if the longest is of so many epochs."""
    return max(1, round(FIRST_SHARE * horizon))


def rungs_for(horizon: int, first: int) -> list[int]:
    """`first`, twice that, and so on; the last is well below the horizon."""
    rungs = [first]
    while rungs[-1] * REDUCTION < horizon:
        rungs.append(rungs[-1] * REDUCTION)
    while rungs and rungs[-1] * math.sqrt(REDUCTION) > horizon:
        rungs.pop()
    return rungs


def expected_epochs(
    epochs: int, horizon: int, grace: int | None = None, sure: float = 0.0
) -> float:
    """Of a trial of so many epochs, in the mean, when each rung keeps as many as usual."""
    spent, share, last = 0.0, 1.0, 0
    for rung in [
        *(rung for rung in rungs_for(horizon, grace or first_rung(horizon)) if rung < epochs),
        epochs,
    ]:
        spent += share * (rung - last)
        share, last = share * (KEPT + KEPT_TO_BE_SURE * sure), rung
    return spent
