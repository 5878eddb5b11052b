"""The values and places of trials at the rungs of a search, as arrays for `asha`.

Trials that differ only in their number of epochs are one *training*: they share its values and its
places, and count once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.schedulers.base import TrialCourse
from search.values.objectives import Costs

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass
class Runner:
    """A trial, the number of its training, its last epoch, and where it is."""

    trial: str
    training: int
    epochs: int
    reached: int = 0
    """The last epoch that was reported."""
    level: int | None = None
    """The number of the rung at which it waits, or was stopped; None if at none."""
    outcome: str = ""
    """Its outcome; empty while it has not ended."""


class Standings:
    """The values and places of trainings at rungs: arrays of shape (rungs + 1, trainings).

    The last row stands for the end. A place is 1 plus the number of trainings at that rung that are
    better and cost no more; equal trainings share the mean of their places. Where a training has
    not arrived, value and place are nan. The arrays have spare columns for further trainings.
    """

    def __init__(self, rungs: list[int]) -> None:
        self.rungs = rungs
        self.trials: dict[str, Runner] = {}
        self.numbers: dict[str, int] = {}
        """The number of each training, which is its column in the arrays."""
        self.relatives: list[list[Runner]] = []
        """The trials of each training."""
        self.shared: dict[int, None] = {}
        """The trainings that have more than one trial (the keys; a dict keeps their order)."""
        self.values = np.full((len(rungs) + 1, 0), np.nan)
        self.places = self.values.copy()
        self.has_arrived = np.zeros(self.values.shape, dtype=bool)
        """True where there is a value."""
        self.highest = np.zeros(0)
        """The best value so far of each training; -inf if it has not reached a rung."""
        self.level = np.zeros(0, dtype=int)
        """The last rung that each training has reached; -1 for none."""
        self.waits, self.runs, self.is_stopped = (np.zeros(0, dtype=bool) for _ in range(3))
        """True for each training that waits at its last rung, runs beyond it, or was stopped."""
        self.furthest, self.epochs, self.last_drop = (np.zeros(0) for _ in range(3))
        """For each training, its last epoch so far, the number of epochs that it may have, and the
        epoch after which its learning rate drops for the last time.
        """
        self.costs = np.full((0, len(rungs) + 1, 0), np.inf)
        """The costs of each training at each rung, and at its end: (costs, rungs + 1, trainings).

        They are infinite while unknown.
        """
        self.arrivals = np.zeros(len(rungs) + 1, dtype=int)
        """The number of trainings that have arrived at each rung, and of those that completed."""
        self.changes = [0] * (len(rungs) + 1)
        """The number of changes of values at each rung."""
        self.shifts = np.zeros((len(rungs) + 1, len(rungs) + 1), dtype=int)
        """For each rung, and each one further on: how often places at the first have changed among
        trainings that came to the second.
        """

    @property
    def is_completed(self) -> Flags:
        """True for each training at its last epoch, unless a longer trial of it runs."""
        is_completed: Flags = self.has_arrived[-1]
        return is_completed

    @property
    def spent(self) -> int:
        """The epochs of all trainings so far."""
        return int(self.furthest.sum())

    @property
    def is_on_front(self) -> Flags:
        """True for each training that no other one dominates at its last rung, or at the end."""
        is_first: Flags = self._last(self.places) < 2
        return is_first

    def _last(self, values: Array) -> Array:
        """Return the values of each training at its last rung, or at the end: (..., trainings)."""
        last = np.where(self.is_completed, len(self.rungs), self.level)
        at_last: Array = values[..., last, np.arange(values.shape[-1])]
        return at_last

    def best_at_no_more(self, numbers: NDArray[np.intp]) -> Array:
        """Return, for each of these trainings, the best value so far of those that cost no more.

        Only those on the front are compared: a dominated one cannot have the best value.
        """
        highest = self.highest
        if not len(self.costs):
            return np.full(len(numbers), highest.max(initial=-np.inf))
        leaders = np.flatnonzero(self.is_on_front)
        costs = self._last(self.costs)
        is_no_dearer = costs[:, leaders, None] <= costs[:, None, numbers]
        values = np.where(is_no_dearer.all(axis=0), highest[leaders, None], -np.inf)
        best: Array = np.maximum(values.max(axis=0, initial=-np.inf), highest[numbers])
        return best

    def waiting(self, number: int) -> list[str]:
        """Return the trials of a training that wait at its last rung."""
        return [
            runner.trial
            for runner in self.relatives[number]
            if runner.level == self.level[number] and not runner.outcome
        ]

    def covered(self) -> Iterator[str]:
        """Yield waiting trials whose epochs up to the next rung another trial has, or will have."""
        for number in self.shared:
            for runner in self.relatives[number]:
                if runner.level is not None and not runner.outcome:
                    stop = self._next_stop(runner, runner.level)
                    if self.furthest[number] >= stop or any(
                        not relative.outcome
                        and relative.level is None
                        and relative.reached >= runner.reached
                        and self._next_stop(relative, runner.level) >= stop
                        for relative in self.relatives[number]
                    ):
                        yield runner.trial

    def _next_stop(self, runner: Runner, level: int) -> int:
        """Return the epoch at which a trial that leaves a rung stops next."""
        following = self.rungs[level + 1] if level + 1 < len(self.rungs) else runner.epochs
        return min(following, runner.epochs)

    def begin(self, trial: str, training: str, course: TrialCourse) -> None:
        """Add a trial to its training."""
        if training not in self.numbers:
            self.numbers[training] = len(self.numbers)
            self.relatives.append([])
            if len(self.numbers) > len(self.level):
                self._grow(max(64, len(self.level)))
        number = self.numbers[training]
        self.trials[trial] = runner = Runner(trial, number, course.epochs)
        self.relatives[number].append(runner)
        if len(self.relatives[number]) > 1:
            self.shared[number] = None
        self.epochs[number] = max(self.epochs[number], course.epochs)
        self.last_drop[number] = course.last_drop
        self._update(number)

    def _grow(self, more: int) -> None:
        """Add columns, so that adding a training takes constant time on average."""
        for name, filler in (
            ("values", np.nan),
            ("places", np.nan),
            ("has_arrived", False),
            ("highest", -np.inf),
            ("level", -1),
            ("waits", False),
            ("runs", False),
            ("is_stopped", False),
            ("furthest", 0),
            ("epochs", 0),
            ("last_drop", 0),
            ("costs", np.inf),
        ):
            array = getattr(self, name)
            added = np.full((*array.shape[:-1], more), filler, dtype=array.dtype)
            setattr(self, name, np.concatenate([array, added], axis=-1))

    def set_costs(self, trial: str, costs: Costs) -> None:
        """Set the costs of a trial's training from its next rung on; until then, they are infinite.

        They also count at rungs that it has passed while they were unknown.
        """
        number = self.trials[trial].training
        if not len(self.costs):
            self.costs = np.full((len(costs), *self.values.shape), np.inf)
        is_open = ~self.has_arrived[:, number] | np.isinf(self.costs[:, :, number]).any(axis=0)
        column = np.where(is_open, self.values[:, number], np.nan)
        passed = np.flatnonzero(~np.isnan(column)).tolist()
        for level in passed:
            self._set_value(number, level, np.nan)
        self.costs[:, is_open, number] = np.array(costs)[:, None]
        for level in passed:
            self._set_value(number, level, float(column[level]))

    def arrive(self, trial: str, epoch: int, value: float) -> bool:
        """Record a trial's value after an epoch; return True at a rung, where it waits."""
        runner = self.trials[trial]
        runner.reached = epoch
        if epoch > self.furthest[runner.training]:
            self.furthest[runner.training] = epoch
            self._set_value(runner.training, len(self.rungs), np.nan)
        if epoch in self.rungs:
            runner.level = self.rungs.index(epoch)
            self._set_value(runner.training, runner.level, value)
        self._update(runner.training)
        return runner.level is not None and epoch in self.rungs

    def leave(self, trial: str) -> None:
        """Record that a trial continues from its rung."""
        runner = self.trials[trial]
        runner.level = None
        self._update(runner.training)

    def end(self, trial: str, outcome: str, value: float) -> None:
        """Record the end of a trial.

        The training ends with its longest trial. If all of its trials have failed or diverged, it
        loses its places.
        """
        runner = self.trials[trial]
        runner.outcome = outcome
        if outcome != "stopped":
            runner.level = None
        if outcome == "completed" and runner.reached == self.furthest[runner.training]:
            self._set_value(runner.training, len(self.rungs), value)
        elif all(
            relative.outcome in ("failed", "diverged")
            for relative in self.relatives[runner.training]
        ):
            self._forget(runner.training)
        self._update(runner.training)

    def _forget(self, number: int) -> None:
        for level in range(len(self.values)):
            self._set_value(number, level, np.nan)

    def _set_value(self, number: int, level: int, value: float) -> None:
        """Set a training's value at a rung, and update all places there."""
        if self.values[level, number] == value:
            return
        for change, new in ((-1.0, self.values[level, number]), (1.0, value)):
            if np.isnan(new):
                continue
            self.values[level, number] = np.nan
            better, equal, worse = self._compare(number, level, new)
            self.places[level, worse] += change
            self.places[level, equal] += change / 2
            self.places[level, number] = 1 + np.count_nonzero(better) + np.count_nonzero(equal) / 2
            self.changes[level] += 1
            is_shifted = worse | equal
            is_shifted[number] = True
            self.shifts[level] += (self.has_arrived & is_shifted).any(axis=1)
        self.values[level, number] = value
        has_value = not np.isnan(value)
        self.arrivals[level] += int(has_value) - int(self.has_arrived[level, number])
        self.has_arrived[level, number] = has_value
        self.highest[number] = np.fmax.reduce(self.values[:, number], initial=-np.inf)
        if np.isnan(value):
            self.places[level, number] = np.nan

    def _compare(self, number: int, level: int, value: float) -> tuple[Flags, Flags, Flags]:
        """Find the trainings at a rung that dominate this one, equal it, and are dominated."""
        values, costs = self.values[level], self.costs[:, level]
        own = costs[:, [number]]
        no_dearer, no_cheaper = (costs <= own).all(axis=0), (costs >= own).all(axis=0)
        no_worse, no_better = (values >= value) & no_dearer, (values <= value) & no_cheaper
        equal = no_worse & no_better
        return no_worse & ~equal, equal, no_better & ~equal

    def _update(self, number: int) -> None:
        """Derive the level and the flags of a training from its trials."""
        came = np.flatnonzero(self.has_arrived[:-1, number])
        level = self.level[number] = came[-1] if len(came) else -1
        relatives = self.relatives[number]
        waiting = [relative for relative in relatives if relative.level == level]
        is_left = level >= 0 and any(
            not relative.outcome
            and relative.level is None
            and relative.reached >= self.rungs[level]
            for relative in relatives
        )
        self.runs[number] = is_left
        self.waits[number] = not is_left and any(not relative.outcome for relative in waiting)
        self.is_stopped[number] = not (is_left or self.waits[number]) and bool(waiting)
