"""Stopping rules of others, played on learning curves that are known.

Each hears of every epoch, and says which trials wait and which go on.

All see the best value so far, as our own rule does; Ray Tune's classes take those of the very
epoch, which are noisier.
"""

import heapq
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, takewhile

import numpy as np

from search.schedulers import halving, hyperband, median
from search.schedulers.base import Scheduler, Setting, TrialCourse
from search.schedulers.forecast import Forecaster
from search.schedulers.standings import Standings
from tests.bench.curves import Task

NEW = -1
"""Stands for a new configuration instead of one of those that wait."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one search.

    Points behind the best, the share of the grid's epochs, and the time until the end, in epochs.
    """

    regret: float
    cost: float
    makespan: float
    told: float | None = None
    """The chance, by its own account, that the best of all was stopped."""
    lost: bool = False
    """True if it was, and what was chosen is worse by more than the standard error of such values.
    """


class Rule(ABC):
    """A rule for which of a task's configurations, named by their rows, wait and which go on."""

    def __init__(self, task: Task, generator: np.random.Generator) -> None:
        self.horizon, self.generator = task.accuracies.shape[1], generator

    @abstractmethod
    def waits(self, row: int, epoch: int, value: float) -> bool:
        """Hear of an epoch, and return whether the configuration waits then."""

    def choose(self, new: bool) -> int | None:
        """Return one that waits, `NEW` if there is one left, or None.

        A rule that stops lets no configuration go on that waits.
        """
        return NEW if new else None


class Stopping(Rule):
    """A scheduler of this project that stops trials, and lets none continue later."""

    def __init__(
        self,
        task: Task,
        generator: np.random.Generator,
        make: Callable[[Setting], Scheduler],
        *,
        grace: int | None = None,
    ) -> None:
        super().__init__(task, generator)
        self.scheduler = make(Setting(self.horizon, grace=grace))
        self.begun: set[int] = set()

    def waits(self, row: int, epoch: int, value: float) -> bool:
        """Return whether the scheduler stops it."""
        if row not in self.begun:
            self.begun.add(row)
            self.scheduler.begin(str(row), {}, str(row))
        return self.scheduler.on_epoch(str(row), epoch, value)


class Halving(Stopping):
    """`--scheduler halving`, or with several brackets `--scheduler hyperband`."""

    def __init__(
        self,
        task: Task,
        generator: np.random.Generator,
        *,
        grace: int = 1,
        reduction: int = 4,
        brackets: int = 1,
    ) -> None:
        def make(setting: Setting) -> Scheduler:
            if brackets == 1:
                return halving.Halving(setting, reduction)
            return hyperband.Hyperband(setting, brackets, reduction)

        super().__init__(task, generator, make, grace=grace)


class Median(Stopping):
    """`--scheduler median`."""

    def __init__(self, task: Task, generator: np.random.Generator, *, share: float) -> None:
        super().__init__(task, generator, lambda setting: median.Median(setting, share))


class Promoting(Rule):
    """Asynchronous halving that promotes (Li et al. 2018).

    Of those that came to a rung the best `1 / reduction` go on, whichever of them are left.
    """

    def __init__(
        self, task: Task, generator: np.random.Generator, *, grace: int = 1, reduction: int = 3
    ) -> None:
        super().__init__(task, generator)
        self.reduction, self.levels = reduction, rungs_from(grace, reduction, self.horizon)
        self.came: list[dict[int, float]] = [{} for _ in self.levels]
        self.promoted: list[set[int]] = [set() for _ in self.levels]

    @property
    def highest(self) -> int:
        """The number of the rung from which on none may go on; those below it may."""
        return len(self.levels)

    def waits(self, row: int, epoch: int, value: float) -> bool:
        """Return whether it is at a rung."""
        if epoch not in self.levels:
            return False
        self.came[self.levels.index(epoch)][row] = value
        return True

    def choose(self, new: bool) -> int | None:
        """Return the best that may go on from the highest rung, or a new one."""
        for level in reversed(range(self.highest)):
            values = self.values(level)
            for row in sorted(values, key=values.__getitem__, reverse=True)[
                : len(values) // self.reduction
            ]:
                if row not in self.promoted[level]:
                    self.promoted[level].add(row)
                    return row
        return super().choose(new)

    def values(self, level: int) -> dict[int, float]:
        """Return the values by which those at a rung are compared."""
        return self.came[level]


class Progressive(Promoting):
    """PASHA (Bohdal et al. 2023).

    It promotes in the same way, but no further than to the second rung, and one rung further
    whenever the order at the two highest is not the same but for differences that the
    criss-crossing of curves explains.
    """

    def __init__(
        self, task: Task, generator: np.random.Generator, *, grace: int = 1, reduction: int = 3
    ) -> None:
        super().__init__(task, generator, grace=grace, reduction=reduction)
        self.top = min(2, len(self.levels))
        self.curves: dict[int, list[float]] = defaultdict(list)

    @property
    def highest(self) -> int:
        """The rung at which trials are held now; beyond the last rung, none are."""
        return self.top

    def waits(self, row: int, epoch: int, value: float) -> bool:
        """Return whether it is at a rung. At the highest now, the order is looked at."""
        self.curves[row].append(value)
        waits = super().waits(row, epoch, value)
        if (
            waits
            and self.top < len(self.levels)
            and epoch == self.levels[self.top]
            and not self._in_order()
        ):
            self.top += 1
        return waits

    def _in_order(self) -> bool:
        """Return whether the order at the two highest rungs is the same within noise.

        Those at the highest rung that changed places since the rung below must not be told apart
        from those that they changed with.
        """
        above, below = self.came[self.top], self.came[self.top - 1]
        now, before = (
            sorted(above, key=values.__getitem__, reverse=True) for values in (above, below)
        )
        noise = self._noise(now)
        return all(
            abs(above[one] - above[other]) <= noise for one, other in zip(now, before, strict=True)
        )

    def _noise(self, rows: list[int]) -> float:
        """Return the noise of values at the highest rung.

        It is the 90th percentile of how far apart, at the rung, those pairs are whose curves
        crossed and crossed back.
        """
        found = []
        for number, one in enumerate(rows):
            for other in rows[:number]:
                apart = np.array(list(map(float.__sub__, self.curves[one], self.curves[other])))
                if np.count_nonzero(np.diff(np.sign(apart[apart != 0]))) >= 2:
                    found.append(abs(apart[-1]))
        return float(np.percentile(found, 90)) if found else 0.0


class Forecast(Promoting):
    """Halving that promotes by forecasts.

    It takes our forecasts of the end instead of the value at the rung, with a fixed share.
    """

    def __init__(
        self, task: Task, generator: np.random.Generator, *, grace: int = 1, reduction: int = 3
    ) -> None:
        super().__init__(task, generator, grace=grace, reduction=reduction)
        self.standings = Standings(self.levels)
        self.forecaster = Forecaster(self.standings)

    def waits(self, row: int, epoch: int, value: float) -> bool:
        """Return whether it is at a rung. Its end is recorded too, as others are like it."""
        if str(row) not in self.standings.trials:
            self.standings.begin(str(row), str(row), TrialCourse(self.horizon))
        self.standings.arrive(str(row), epoch, value)
        if epoch == self.horizon:
            self.standings.end(str(row), "completed", value)
        return super().waits(row, epoch, value)

    def values(self, level: int) -> dict[int, float]:
        """Return the values that are forecast for the end."""
        self.forecaster.update()
        means, numbers = self.forecaster.means, self.standings.numbers
        return {row: float(means[numbers[str(row)]]) for row in self.came[level]}


def rungs_from(grace: int, reduction: int, horizon: int) -> list[int]:
    """Return `grace`, `reduction` times that, and so on, below the horizon."""
    return list(
        takewhile(lambda rung: rung < horizon, (grace * reduction**power for power in count()))
    )


def race(task: Task, seed: int, workers: int, kind: type[Rule], **settings: float) -> Outcome:
    """Play a search by another rule: configurations in random order, an epoch a unit of time."""
    generator = np.random.default_rng(seed)
    rule, reached, horizon = (
        kind(task, generator, **settings),
        task.reached,
        task.accuracies.shape[1],
    )
    order = [int(row) for row in generator.permutation(len(reached))]
    running: list[tuple[int, int]] = []
    came: dict[int, int] = {}
    spent = now = 0
    while True:
        while len(running) < workers and (chosen := rule.choose(bool(order))) is not None:
            heapq.heappush(running, (now + 1, order.pop() if chosen == NEW else chosen))
        if not running:
            break
        now, row = heapq.heappop(running)
        spent, epoch = spent + 1, came.get(row, 0) + 1
        came[row] = epoch
        if not rule.waits(row, epoch, float(reached[row, epoch - 1])) and epoch < horizon:
            heapq.heappush(running, (now + 1, row))
    return outcome(
        task, {row: float(reached[row, epoch - 1]) for row, epoch in came.items()}, spent, now
    )


def outcome(task: Task, seen: dict[int, float], spent: int, now: int) -> Outcome:
    """Return the worth of the best by these values after so many epochs.

    Where costs differ, it is the mean over the rows of each cost, or less.
    """
    ends = task.reached[:, -1]
    costs = np.zeros(len(ends)) if task.costs is None else task.costs
    behind = []
    for bound in np.unique(costs):
        chosen = max(
            (row for row in seen if costs[row] <= bound), key=seen.__getitem__, default=None
        )
        behind.append(ends[costs <= bound].max() - (ends[chosen] if chosen is not None else 0.0))
    return Outcome(100 * float(np.mean(behind)), spent / task.accuracies.size, now)
