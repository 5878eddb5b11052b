"""Asynchronous successive halving that learns from its curves how many trials to promote.

Trials wait at rungs, epochs 1, 2, 4, 8 ...; of those that wait, some go on to the next (Li et al.
2018, arXiv 1810.05934, who promote the best third at each rung). A fixed share is too small where
curves separate late, and too large where they separate early. Here it is measured:

    Forecast    A trial's forecast is its value plus the gain that trials like it (near in params
                and value) have made since they were where it is. No trial is its own
                neighbour. Its place is by what may be hoped: more where much is still to be gained,
                and forecasts of gains were wrong (`search.schedulers.forecast`).
    Depth       Where did the leaders of later rungs stand, by these places, at this one? If on
                average they were among the first `mu`, the first `mu` go on. The chance that the
                best stands further behind than place `d` falls as (1 + d / (k mu)) ** -k, which is
                that of a geometric distribution whose mean is known from so few that it may be
                larger. The largest `mu` over all later rungs counts, so that late crossings are
                seen: they show in the trials that came far early, when few had come. A leader
                counts as where the foremost of those stood that are as good within noise. That is
                too far ahead, but known from more than `k` leaders: where any has such equals, `k`
                is 20 instead of 5. For these chances `mu` is taken as no less than 1.5; where
                any has equals, as no less than a quarter of those at the rung, up to 3.
    Floors      At least `MIN_PROMOTED` trials go on from a rung. Nearly half do, as long as that
                takes no more epochs on the way to the next rung than all trainings took to their
                first.
    Trainings   Trials that differ in their number of epochs alone are one training: they stand at
                one place, and count once.
    Order       The trial with the highest chance to be the best, per epoch, is next. For one that
                waits it is the chance by its place, over the epochs to the next rung. A new one is
                as likely as any before to be the best, so that its chance per epoch is one over
                all epochs so far. That is raised or lowered if, among the later half of the
                trials, more or fewer were the best so far than by chance; and it counts `NEW_GAIN`
                times, for a new trial also tells of others. So the leader of a few trials is soon
                far ahead, and most epochs go into looking further.
    Beginners   Trainings that have hardly begun to learn stand last, so that none of them might go
                on and show what becomes of such. Where they are many at an early rung, or two of
                the rung before have begun, and no other trial is to go on, four of them do, the
                foremost first, and two more for each of these that has begun: that gained about as
                much as the others, and more than noise, on the way to the next rung, or from there
                on. None is tried where all may be risked, or the best cannot be beaten.
    Sure        When no other trial is to go on, the chances of the waiting ones to be the best are
                added up. At a rung each chance is in proportion to that by place times the root of
                that by outlook (`search.schedulers.forecast`), of which something is left to all:
                the outlook is misleading for a trial that is far from those that went on. All at
                the rung, those that went on included, have a chance of 1 together once there is an
                outlook, for one of them is the best; so it does not matter that an outlook is too
                bright for all alike. While the sum of those that wait is more than the user wants
                to risk, the one with the most chance per epoch goes on. So an easy search ends
                soon, and a hard one trains what it needs.

Where networks are to cost little too (`--objective`), places are taken in turn from the order by
forecast and from the order by Pareto front, and no trial is left behind at a rung if no other one
is as good by forecast and costs no more. Each rung's trials get as many epochs as any other's, and
new trials get twice as many as all of them together, while there are any.

A trial that waits has lost nothing: when the leaders turn out to come from further behind, it goes
on from its checkpoint.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import pairwise, takewhile

import numpy as np
from numpy.typing import NDArray

from search.schedulers.base import NEW, Expected, Risk, Scheduler, Setting, Stop
from search.schedulers.forecast import Array, Forecaster, Outlook
from search.values.objectives import Costs, in_turn
from trainables.values import Params

REDUCTION = 2
"""The ratio of each rung to the one before."""
LEADERS = 3
"""The number of a rung's trials that count as its leaders."""
MIN_PROMOTED = 3
"""The least number of trials that go on from a rung."""
MIN_MEAN = 1.5
"""The least mean place of the best: the few leaders that show it may have been lucky."""
TIED_SHARE, MIN_MEAN_TIED = 0.25, 3.0
"""The least mean place where any leader has equals: it counts further ahead than it may have stood.

It is the first number's share of the trainings at the rung, and at most the second number.
"""
CUT_OFF = 5
"""The power that corrects a mean place for a distribution that is cut off (`mean_place`).

The higher it is, the nearer to the middle a mean must be before it is corrected. 3 is exact near
the middle, where the mean is noisy.
"""
BALANCED_SHARE = 0.45
"""The least share of a rung that goes on, as long as the epochs are balanced.

They are while no more epochs are spent from there to the next rung than on the way of all trainings
to the first.
"""
LIKE_LEADERS = 5
"""A mean place counts as if known from so many leaders.

The fewer, the more chance is far behind.
"""
LIKE_LEADERS_TIED = 20
"""The same where any leader has equals: their places were looked at too."""
TIED = 0.65
"""Trainings that are behind another one by so many of its standard errors count as its equals."""
MANY_BEGINNERS = 0.2
"""Beginners are tried where they are at least this share of a rung."""
EARLY = 0.1
"""The last rung where a training may be a beginner, at most, as a share of the longest trial."""
TRIED, TRIED_MORE = 4, 2
"""The number of beginners that are tried at a rung, and of further ones for each that has begun."""
MIN_BEGUN = 2
"""Where so many at a rung have begun, beginners at the next one are tried, even if they are few."""
NOTICED = 2.0
"""A beginner has begun only if it gained more than so many standard errors of its value."""
DIMMEST = 0.02
"""The least chance by outlook, for an outlook may be wrong."""
NEW_GAIN = 2.5
"""The worth of a new trial's chance to be the best, relative to that of a waiting trial."""
NEW_SHARE, NEW_AHEAD = 2.0, 4
"""The share of new trials, and the number always ahead, where networks are to cost little.

New trials get `NEW_SHARE` times the epochs of all that go on, and `NEW_AHEAD` of them are always
ahead of that.
"""
FIRST_SHARE = 0.01
"""The first rung, at least, as a share of the longest trial.

Before that, hardly anything has been learned of a trial.
"""
KEPT, KEPT_TO_BE_SURE = 0.6, 0.05
"""The share of a rung that goes on, roughly, on recorded curves: for plans.

The second number, times how sure the user wants to be, is added to the first.
"""
NOISE_SHARE = 0.5
"""The share of a value's standard error that is added to its outlook's deviation.

The deviation has most of it already; with this it is never zero.
"""
MIN_RISK = 0.0001
"""A smaller chance is told as less than this one."""
Stake = tuple[float, int]
"""A trial's chance to be the best of all, and the epochs to its next rung."""


class Asha(Scheduler):
    """Asynchronous successive halving with a measured number of promotions.

    The rungs begin at `grace`, by default a hundredth of the longest trial, and each is twice the
    one before, up to the longest trial.
    """

    def __init__(self, setting: Setting) -> None:
        self.horizon, self.risked, self.highest = setting.horizon, 1 - setting.sure, setting.highest
        self.rungs = rungs_for(setting.horizon, setting.grace or first_rung(setting.horizon))
        self.legs = [after - before for before, after in pairwise([0, *self.rungs, self.horizon])]
        """The epochs from each rung to the next: from 0 to the first, and so on to the horizon."""
        self.waiting: list[dict[str, None]] = [{} for _ in self.rungs]
        """The trials that wait at each rung.

        Unless an attribute below says that it is of trials, it is of trainings.
        """
        self.stopped: list[dict[str, None]] = [{} for _ in self.rungs]
        """The trials that were stopped at each rung."""
        early = sum(rung <= EARLY * self.horizon for rung in self.rungs)
        self.forecaster = Forecaster(setting.space, len(self.rungs), early)
        self.training: dict[str, str] = {}
        """The training of each trial."""
        self.live: dict[str, set[str]] = {}
        """For each training, those of its trials that have neither failed nor diverged."""
        self.reached: dict[str, int] = {}
        """The last epoch that each trial has reached."""
        self.furthest: dict[str, int] = {}
        """The last epoch that each training has reached."""
        self.costs: dict[str, Costs] = {}
        self.promoted: list[set[str]] = [set() for _ in self.rungs]
        """The trainings that have gone on from each rung."""
        self._is_stale = True
        """True if anything was heard since the places below were computed."""
        self._hopes: list[dict[str, float]] = [{} for _ in self.rungs]
        """For each rung, the hopes (the very objects) that its places come from."""
        self._places: list[dict[str, int]] = [{} for _ in self.rungs]
        """For each rung, the place of each training by its hope, from 1; in this order."""
        self._fronts: list[int] = [0 for _ in self.rungs]
        """For each rung, the last place of a training that no other one is better than."""
        self._means: list[float] = [1.0 for _ in self.rungs]
        """For each rung, the mean place of the leaders of later rungs (`_mean_place`)."""
        self._tied: list[bool] = [False for _ in self.rungs]
        """For each rung, True if any of these leaders has equals."""
        self._is_unjudged = True
        """True if the places were computed anew since the chances below were."""
        self._chances: list[dict[str, float]] = [{} for _ in self.rungs]
        """For each rung, the chance of each training there to be the best of all."""
        self._judged: list[tuple[float, Outlook | None] | None] = [None for _ in self.rungs]
        """For each rung, the bar and the outlook of these chances; None if they are stale."""
        self._stakes: dict[str, Stake] = {}
        """The stakes of the waiting trials; empty if they are to be computed anew."""
        self._bar = 0.0
        """The value that a training must come to, to be better than the best beyond noise."""

    def begin(self, trial: str, params: Params, training: str) -> None:
        """Add a trial to its training."""
        self.training[trial] = training
        if training not in self.live:
            self.forecaster.begin(training, params)
        self.live.setdefault(training, set()).add(trial)

    def cost(self, trial: str, costs: Costs) -> None:
        """Hear what a trial's network costs: it is compared with others by that too."""
        if self.costs.get(training := self.training[trial]) != costs:
            self.costs[training] = costs
            self._hopes, self._is_stale = [{} for _ in self.rungs], True

    def on_epoch(self, trial: str, epoch: int, value: float) -> bool:
        """Hear a trial's value after an epoch; return True at a rung, where the trial waits."""
        self._record_epoch(trial, epoch)
        if epoch not in self.rungs:
            return False
        level = self.rungs.index(epoch)
        self.forecaster.hear(self.training[trial], level, value)
        self.waiting[level][trial] = None
        self._is_stale = True
        return True

    def go_on(self, trial: str) -> None:
        """Move a waiting trial from its rung to those that were promoted."""
        if (level := self._level(trial)) is not None:
            del self.waiting[level][trial]
            self.promoted[level].add(self.training[trial])
            self._stakes = {}

    def end(self, trial: str, outcome: str, value: float) -> None:
        """Hear that a trial will not go on.

        One that was stopped keeps its place. A training whose trials have all failed or diverged
        takes no place any more.
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
        self._is_stale = True

    def choose(self, *, new: bool, fits: Callable[[str], bool] = lambda trial: True) -> str | None:
        """Return the trial that gains most per epoch, of those that stand where the best may.

        A new trial counts as one of these. If there is none, return one of a beginner that is to be
        tried, or else one that it is too risky to stop.
        """
        if (due := self._due(new, fits)) is not None:
            return due
        return next((trial for trial in self._tried if fits(trial)), None) or self._risky(fits)

    def _due(self, new: bool, fits: Callable[[str], bool]) -> str | None:
        """Return a trial that stands where the best of all may, or `NEW`; None if there is none."""
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
            if new and (best is None or gain[best] < NEW_GAIN * self._record_rate / self._spent)
            else best
        )

    def _in_shares(self, new: bool, fits: Callable[[str], bool]) -> str | None:
        """Return the same where networks are to cost little too, by each rung's share of epochs.

        Many trials are then among the best, and a chance to be one of them tells little. So the
        next trial is of the rung, or of the new trials, on which the fewest epochs were spent.
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
    def _record_rate(self) -> float:
        """The number of recent trials that were the best so far, relative to chance.

        It is counted in the later half of the trials that came to the first rung. By chance that
        half has as many as the logarithm of 2, on average. One is added to both, so that a few
        trials say little.
        """
        values = list(self.forecaster.values[0].values())
        best, records = max(values[: len(values) // 2], default=math.inf), 0
        for value in values[len(values) // 2 :]:
            if value > best:
                best, records = value, records + 1
        return (1 + records) / (1 + math.log(2))

    @property
    def _spent(self) -> int:
        """The epochs of all so far; a training on its way to a rung counts as if it were there."""
        return sum(self._spent_by_rung)

    @property
    def _spent_by_rung(self) -> list[int]:
        """The same epochs on the way to each rung, and from the last one to the end."""
        return [
            leg * count
            for leg, count in zip(
                self.legs, [len(self.live), *map(len, self.promoted)], strict=True
            )
        ]

    @property
    def ready(self) -> int:
        """The number of waiting trials that are to go on.

        Those are the trials that stand where the best of all may, the beginners that are to be
        tried, and those with a chance, while it is too risky to stop them all.
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
        return len(risky | due | set(self._tried))

    @property
    def risk(self) -> Risk | None:
        """The risk in the trials that wait or were stopped; None where it is not known.

        The chances are added up. Those with the most chance per epoch would halve the sum by going
        on to their next rungs.
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

    @property
    def _tried(self) -> list[str]:
        """The waiting trials of beginners that are to go on to show what becomes of such."""
        if self.risked >= 1 or self.costs:
            return []
        self._judge()
        if self._bar >= self.highest:
            return []
        found, are_beginning = [], False
        for level, begun in enumerate(self._begun):
            beginners = self.forecaster.beginners(level)
            failed = self.promoted[level] - self.forecaster.values[level].keys()
            tried = self.promoted[level] & beginners | failed
            left = beginners - self.promoted[level]
            are_many = len(beginners) >= MANY_BEGINNERS * len(self._places[level])
            if are_many or are_beginning:
                waiting = {
                    training: trial
                    for trial in self.waiting[level]
                    if (training := self.training[trial]) in left
                }
                foremost = sorted(waiting, key=self._places[level].__getitem__)
                more = TRIED + TRIED_MORE * len(begun) - len(tried)
                found += [waiting[training] for training in foremost[: max(0, more)]]
            are_beginning = len(begun) >= MIN_BEGUN
        return found

    @property
    def _begun(self) -> list[set[str]]:
        """For each early rung, the beginners that went on from there and have begun to learn.

        On the way to the next rung, or from a later early one to its next, they gained about as
        much as others, and more than noise.
        """
        found: list[set[str]] = []
        begun: set[str] = set()
        for level in reversed(range(self.forecaster.early)):
            here, there = self.forecaster.values[level : level + 2]
            begun |= {
                trial
                for trial in self.forecaster.begun(level)
                if there[trial] - here[trial] > NOTICED * self.error_of(there[trial])
            }
            begun &= self.promoted[level] & self.forecaster.beginners(level)
            found.append(set(begun))
        return found[::-1]

    def _risky(self, fits: Callable[[str], bool]) -> str | None:
        """Return the waiting trial with the most chance per epoch; None if all may be stopped.

        All may be stopped once their chances together are no more than the user wants to risk.
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
        """True if the waiting trials have more chance together than the user wants to risk."""
        return (
            self.risked < 1
            and not self.costs
            and sum(chance for chance, _ in self._by_training(self._staked)) > self.risked
        )

    @property
    def _staked(self) -> dict[str, Stake]:
        """The stakes of the waiting trials, computed anew where they must be."""
        self._refresh()
        if not self._stakes:
            self._stakes = self._stakes_of(self.waiting)
        return self._stakes

    def _stakes_of(self, trials_by_rung: list[dict[str, None]]) -> dict[str, Stake]:
        """Return the stake of each of these trials, which are given by rung.

        A stake is the chance that the trial is the best of all, and the epochs to its next rung.
        """
        return {
            trial: (self._chance(level, trial), self.legs[level + 1])
            for level, trials in enumerate(trials_by_rung)
            for trial in trials
        }

    def _by_training(self, stakes: Mapping[str, Stake]) -> Collection[Stake]:
        """Return the stake of each training once, where its chance is highest."""
        found: dict[str, Stake] = {}
        for trial, stake in stakes.items():
            found[self.training[trial]] = max(stake, found.get(self.training[trial], stake))
        return found.values()

    def why(self, trial: str) -> Stop:
        """Return the place of a waiting trial among those that came to its rung, as the reason."""
        if (level := self._level(trial)) is None:
            return Stop("the rung that it waited at is none any more")
        place, count, depth = (
            self._place(level, trial),
            len(self._placed[level]),
            self._depth(level),
        )
        cost = " (cost included)" * bool(self.costs)
        text = f"forecast {ordinal(place)} of {count}{cost} at epoch {self.rungs[level]}"
        if place <= depth:
            return Stop(f"{text}; others train first", rung=self.rungs[level], rivals=count)
        text = f"{text}; the top {math.floor(depth)} continue"
        if not self._is_known(level):
            return Stop(text, rung=self.rungs[level], rivals=count)
        risk = self._chance(level, trial)
        best = "one of the best" if self.costs else "the best"
        chance = f"about a {risk:.2%}" if risk >= MIN_RISK else f"less than a {MIN_RISK:.2%}"
        reason = f"{text}; {chance} chance of being {best}"
        return Stop(reason, rung=self.rungs[level], rivals=count, risk=round(risk, 6))

    def _is_known(self, level: int) -> bool:
        """Return whether any training has come further than this rung.

        Only then is anything known of what becomes of those that wait there.
        """
        return any(self.forecaster.values[level + 1 :])

    def _chance(self, level: int, trial: str) -> float:
        """Return the chance that a trial that waits at this rung would have been the best of all.

        It is 0 where nothing is known, or where another trial of its training has gone on.
        """
        if not self._is_known(level) or self.training[trial] in self.promoted[level]:
            return 0.0
        self._judge()
        return self._chances[level][self.training[trial]]

    def _by_place(self, level: int, trial: str) -> float:
        """Return the same chance as far as the trial's place tells."""
        place = self._place(level, trial)
        return float(self._by_places(level, np.array([place - 1, place]))[0])

    def _by_places(self, level: int, places: NDArray[np.int_]) -> Array:
        """Return the chance that the best stands between each of these places and the next."""
        least, like = MIN_MEAN, LIKE_LEADERS
        if self._tied[level]:
            share = TIED_SHARE * len(self._places[level])
            least, like = max(least, min(share, MIN_MEAN_TIED)), LIKE_LEADERS_TIED
        return -np.diff(beyond(places, max(least, self._means[level]), like))

    def _record_epoch(self, trial: str, epoch: int) -> None:
        """Record that a trial has come to this epoch.

        If its training had ended earlier, since that was the end of a shorter trial, it has not
        ended any more.
        """
        training, self.reached[trial] = self.training[trial], epoch
        if epoch > self.furthest.get(training, 0):
            self.furthest[training] = epoch
            self._is_stale |= self.forecaster.unhear(training, len(self.rungs))

    def _level(self, trial: str) -> int | None:
        """Return the number of the rung at which a trial waits; None if it waits at none."""
        return next((level for level, waiting in enumerate(self.waiting) if trial in waiting), None)

    def _first(self, level: int, fits: Callable[[str], bool]) -> str | None:
        """Return the best of the trials that wait at a rung and fit.

        None if there is none that stands where the best of all may.
        """
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
        """Return the place of a trial's training at this rung, from 1."""
        return self._placed[level][self.training[trial]]

    @property
    def _placed(self) -> list[dict[str, int]]:
        """The places at each rung, as of now."""
        self._refresh()
        return self._places

    def _refresh(self) -> None:
        """Compute the places anew if anything was heard since.

        Where a rung's forecasts are the same, nothing was heard there or further on.
        """
        if not self._is_stale:
            return
        self._is_stale = False
        for level, hopes in enumerate(self.forecaster.hopes()):
            if hopes is not self._hopes[level]:
                ordered, _, self._fronts[level] = in_turn(hopes, self.costs)
                self._places[level] = dict(zip(ordered, range(1, len(ordered) + 1), strict=True))
                self._hopes[level] = hopes
                self._means[level], self._tied[level] = self._mean_place(level)
                self._judged[level] = None
        self._is_unjudged, self._stakes = True, {}

    def _judge(self) -> None:
        """Compute the chances of trainings to be the best of all, where they may have changed.

        By its outlook a training must beat the best so far by more than the standard error of that,
        which none can where that is more than any value. It takes half of a decision's time, and is
        not asked for while trials go on by their places.
        """
        self._refresh()
        if not self._is_unjudged:
            return
        self._is_unjudged = False
        best = self.forecaster.best
        error = self.error_of(best)
        self._bar = bar = best + error
        outlooks: list[Outlook | None] = [None for _ in self.rungs]
        if not self.costs and bar < self.highest:
            outlooks = self.forecaster.outlooks(NOISE_SHARE * error)
        for level, outlook in enumerate(outlooks):
            judged = self._judged[level]
            if judged is None or judged[0] != bar or judged[1] is not outlook:
                self._chances[level] = self._chances_at(level, bar, outlook)
                self._judged[level] = bar, outlook

    def _chances_at(self, level: int, bar: float, outlook: Outlook | None) -> dict[str, float]:
        """Return the chance of each training at a rung to be the best of all.

        Where there is no outlook the place alone tells.
        """
        places = self._places[level]
        if not self.costs and bar >= self.highest:
            return dict.fromkeys(places, 0.0)
        chances = self._by_places(level, np.arange(len(places) + 1))
        if outlook is not None:
            bright = outlook.chances(bar)
            by_outlook = np.array([bright.get(training, 0.0) for training in places])
            chances *= np.sqrt(np.maximum(DIMMEST, by_outlook))
            chances /= chances.sum()
        return dict(zip(places, chances.tolist(), strict=True))

    @property
    def expected(self) -> dict[str, Expected]:
        """The expected value of each trial, from the last rung that its training has reached.

        Empty where networks are to cost little too.
        """
        if self.costs:
            return {}
        self._judge()
        found = self.forecaster.expected()
        return {
            trial: found[training] for trial, training in self.training.items() if training in found
        }

    def _depth(self, level: int) -> float:
        """Return the number of places that go on from a rung."""
        affordable, share = (
            len(self.live) * self.legs[0] / self.legs[level + 1],
            BALANCED_SHARE * len(self._placed[level]),
        )
        return max(MIN_PROMOTED, self._fronts[level], self._means[level], min(share, affordable))

    def _mean_place(self, level: int) -> tuple[float, bool]:
        """Return the mean place, at this rung, of the leaders of later rungs.

        It is 1 if they stood in the same order. The largest over all later rungs counts. And return
        whether any of these leaders has equals.
        """
        places, mean, are_tied = self._places[level], 1.0, False
        for later in range(level + 1, len(self.rungs) + 1):
            values, leading = self.forecaster.values[later], LEADERS
            came = [training for training in self.forecaster.ordered(later) if training in places]
            if self.costs:
                came, front, _ = in_turn(
                    {training: values[training] for training in came}, self.costs
                )
                leading = max(LEADERS, front)
            if came:
                stood = [places[training] for training in came]
                for number in range(0 if self.costs else min(leading, len(came))):
                    equals = [places[equal] for equal in self._equals(values, came[number:])]
                    stood[number] = min(equals)
                    are_tied |= len(equals) > 1
                behind = mean_place(stood, leading, is_next=later == level + 1)
                mean = max(mean, min(behind, len(places)))
        return mean, are_tied

    def _equals(self, values: Mapping[str, float], ordered: list[str]) -> Iterator[str]:
        """Yield the first of these, the best first, and those that are as good within noise."""
        least = values[ordered[0]] - TIED * self.error_of(values[ordered[0]])
        return takewhile(lambda training: values[training] >= least, ordered)


def ordinal(number: int) -> str:
    """Return `1st`, `2nd`, `3rd`, `11th`."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10)
    return f"{number}{ending or 'th'}"


def mean_place(came: list[int], leading: int, *, is_next: bool) -> float:
    """Return the mean place of so many leaders of a later rung: 1 if they stood in order.

    `came` are the places of all that came to the later rung, the leaders first.

    If at the next rung the leaders come from anywhere among those that went there, they may come
    from anywhere behind them too: for an exponential distribution that is cut off, the mean tells
    less and less the nearer it is to the middle, and there nothing.
    """
    leaders = min(leading, len(came))
    in_order = (leaders - 1) / 2
    stood, all_of_them = sum(came[:leaders]) / leaders - in_order, sum(came) / len(came) - in_order
    if not is_next or len(came) < 2 * leaders:
        return stood
    return stood / max(1e-9, 1 - (stood / all_of_them) ** CUT_OFF)


def beyond(places: NDArray[np.int_], mean: float, like: int = LIKE_LEADERS) -> Array:
    """Return the chance that the best stands further behind than each place, for a mean place.

    It is Lomax's distribution: an exponential one whose rate is uncertain as one that was learned
    from so many leaders is (a gamma distribution).
    """
    found: Array = (1 + places / (like * mean)) ** -float(like)
    return found


def first_rung(horizon: int) -> int:
    """Return the epoch where trials first wait, if the longest has `horizon` epochs."""
    return max(1, round(FIRST_SHARE * horizon))


def rungs_for(horizon: int, first: int) -> list[int]:
    """Return the rungs: `first`, twice that, and so on; the last is well below the horizon."""
    rungs = [first]
    while rungs[-1] * REDUCTION < horizon:
        rungs.append(rungs[-1] * REDUCTION)
    while rungs and rungs[-1] * math.sqrt(REDUCTION) > horizon:
        rungs.pop()
    return rungs


def expected_epochs(
    epochs: int, horizon: int, grace: int | None = None, sure: float = 0.0
) -> float:
    """Return the mean number of epochs spent on a trial that is to have `epochs` of them.

    Each rung is taken to keep as many trials as usual.
    """
    spent, share, last = 0.0, 1.0, 0
    for rung in [
        *(rung for rung in rungs_for(horizon, grace or first_rung(horizon)) if rung < epochs),
        epochs,
    ]:
        spent += share * (rung - last)
        share, last = share * (KEPT + KEPT_TO_BE_SURE * sure), rung
    return spent
