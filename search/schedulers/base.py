"""The interface of a scheduler, which lets trials wait at rungs and decides which continue.

Its decisions depend only on what it has received, and in which order. A resumed search therefore
replays its journal to it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from search.values.objectives import Costs
from trainables.values import Params

NEW = ""
"""The result of `choose` when a new trial should start next."""


@dataclass(frozen=True)
class Setting:
    """Facts of a search that a scheduler may know before it begins."""

    horizon: int
    """The largest number of epochs that a trial may have."""
    grace: int | None = None
    """The first rung, in epochs, where the user has set it."""
    sure: float = 0.0
    """The probability the user asks for that the best trial is not among the stopped ones."""
    highest: float = math.inf
    """The highest possible value of the metric, infinite if there is none."""


@dataclass(frozen=True)
class TrialCourse:
    """The length of a trial and its learning-rate schedule, which its config fixes in advance."""

    epochs: int
    """The number of epochs of the trial."""
    last_drop: int = 0
    """The epoch after which the learning rate drops for the last time by a fixed schedule.

    0 if it does not drop, drops gradually, or depending on the values.
    """


@dataclass(frozen=True)
class Stop:
    """The reason why a trial waits or was stopped."""

    reason: str
    """The reason in words, for people."""
    rung: int | None = None
    """The epoch at which trials were compared."""
    rivals: int | None = None
    """The number of trials that had reached that epoch, this one included."""
    risk: float | None = None
    """The probability, given the curves so far, that this trial would have been the best."""


@dataclass(frozen=True)
class Expected:
    """A forecast of the value that a trial would reach at its end: a Student's t distribution.

    It is estimated from the curves so far. `deviation` is the scale of the distribution, `freedom`
    its degrees of freedom.
    """

    mean: float
    deviation: float
    freedom: float

    def draw(self, generator: np.random.Generator, low: float, high: float) -> float:
        """Draw a value between `low` and `high` from the distribution."""
        # Imported here since it takes a tenth of a second, which no search's start should wait for.
        from scipy.special import stdtr, stdtrit

        scale = max(self.deviation, 1e-9)
        below, above = (
            float(stdtr(self.freedom, (bound - self.mean) / scale)) for bound in (low, high)
        )
        if below == above:  # nearly all of the distribution lies outside
            return low if self.mean < low else high
        drawn = self.mean + scale * float(stdtrit(self.freedom, generator.uniform(below, above)))
        return min(max(drawn, low), high)


@dataclass(frozen=True)
class Risk:
    """The risk that the best trial of all is among those that do not continue."""

    chance: float
    """The probability that it is among them."""
    epochs: int
    """Approximately how many further epochs of these trials would halve this probability."""
    new: float
    """The probability that the same number of epochs, spent on new trials, finds a better trial.

    It assumes that each new trial is as likely as any earlier one to be the best.
    """


class Scheduler(ABC):
    """A scheduler decides which trial trains next.

    The driver calls one method for each event of a trial: its begin, each of its epochs, its
    promotion from a rung, and its end.
    """

    title: ClassVar[str]
    """What ended trials early, in the verdict of a search; empty if nothing does."""
    summary: ClassVar[str]
    """What the scheduler does, for the form of a new search."""

    def __init__(self, setting: Setting) -> None:  # noqa: B027 - some need no setting
        """Create the scheduler of a search with this setting."""

    def error_of(self, value: float) -> float:
        """Return the standard error of a value of the metric; 0 where it is not known.

        The driver replaces this method by its own.
        """
        return 0.0

    def begin(  # noqa: B027 - listening is optional
        self, trial: str, params: Params, training: str, course: TrialCourse | None = None
    ) -> None:
        """Receive the begin of a trial with these params.

        Trials with the same `training` differ only in their number of epochs, and share its epochs.
        Without a `course`, a trial is as long as the longest one and its learning rate is constant.
        """

    def cost(self, trial: str, costs: Costs) -> None:  # noqa: B027
        """Receive the costs of a trial: before its first epoch, or before each epoch's value.

        They may change from epoch to epoch. Only called if the search has objectives beside its
        metric.
        """

    @abstractmethod
    def on_epoch(self, trial: str, epoch: int, value: float) -> bool:
        """Receive a trial's value after an epoch; return True at a rung, where the trial waits.

        `value` is the best so far (higher is better); `epoch` counts from 1.
        """

    def go_on(self, trial: str) -> None:  # noqa: B027
        """Receive that a waiting trial was promoted."""

    def end(self, trial: str, outcome: str, value: float) -> None:  # noqa: B027
        """Receive the end of a trial, with its outcome and its best value.

        The outcome is `completed`, `stopped`, `diverged` or `failed`.
        """

    def choose(self, *, new: bool, fits: Callable[[str], bool] = lambda trial: True) -> str | None:
        """Return the trial to train next: a waiting one, `NEW`, or None if there is none for now.

        A waiting trial is only chosen if its next epoch `fits` into the remaining budget, and `NEW`
        only if `new` trials are allowed.
        """
        return NEW if new else None

    @property
    def ready(self) -> int:
        """The number of waiting trials that should be promoted."""
        return 0

    @property
    def risk(self) -> Risk | None:
        """The risk if no further trial continues; None where it is not known.

        Trials that were stopped earlier count as well.
        """
        return None

    @property
    def expected(self) -> dict[str, Expected]:
        """The forecast of each trial that has not ended; empty if the scheduler makes none."""
        return {}

    def why(self, trial: str) -> Stop:
        """Return the reason why a waiting trial does not continue.

        Raises:
            KeyError: no trial waits, as with a scheduler without rungs.
        """
        raise KeyError(trial)
