"""The interface of a scheduler: it hears every epoch, holds trials at rungs and promotes them.

Its decisions depend only on what it was told, and in which order: a search that is resumed tells it
its journal again.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from search.values.objectives import Costs
from trainables.values import Params

NEW = ""
"""The answer of `choose` when the next to train is a trial that has not begun."""


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
    """The value that none is higher than."""


@dataclass(frozen=True)
class TrialCourse:
    """What the config of a trial says of its course."""

    epochs: int
    """The number of epochs of the trial."""
    last_drop: int = 0
    """The epoch after which the learning rate drops for the last time by a fixed schedule.

    0 if it does not drop, drops gradually, or depending on the values.
    """


@dataclass(frozen=True)
class Stop:
    """A decision to let a trial wait, or to stop it, with its grounds."""

    reason: str
    """The reason in words, for people."""
    rung: int | None = None
    """The epoch at which trials were compared."""
    rivals: int | None = None
    """The number of trials that had reached that epoch, this one included."""
    risk: float | None = None
    """The chance, as far as the curves so far tell, that this trial would have been the best."""


@dataclass(frozen=True)
class Expected:
    """The value that a trial would reach if it went on to its end, as a Student's t distribution.

    It is estimated from the curves so far. `deviation` is the distribution's scale, `freedom` its
    degrees of freedom.
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
    """The risk that the best trial of all is among those that do not go on."""

    chance: float
    """The chance that it is among them."""
    epochs: int
    """About the number of further epochs of these trials that would halve the chance."""
    new: float
    """The chance that as many epochs of new trials find a better one than all so far.

    Each new trial is taken to be as likely as any before to be the best.
    """


class Scheduler(ABC):
    """A scheduler decides which trial trains next.

    It is told each of these once: that a trial begins, its epochs, that it goes on from a rung, and
    that it has ended.
    """

    def error_of(self, value: float) -> float:
        """Return the standard error of a value that was heard; 0 where it is not known.

        The driver puts its own in this one's place.
        """
        return 0.0

    def begin(  # noqa: B027 - listening is optional
        self, trial: str, params: Params, training: str, course: TrialCourse | None = None
    ) -> None:
        """Receive that a trial with these params begins.

        Trials of one `training` differ only in their number of epochs: it is trained once for all.
        Without a `course`, it has as many epochs as the longest trial, at a constant learning rate.
        """

    def cost(self, trial: str, costs: Costs) -> None:  # noqa: B027
        """Hear, before a trial's first epoch, what its network costs.

        Called where the search has objectives beside its metric.
        """

    @abstractmethod
    def on_epoch(self, trial: str, epoch: int, value: float) -> bool:
        """Hear a trial's value after an epoch; return True at a rung, where the trial waits.

        `value` is the best so far (higher is better); `epoch` counts from 1.
        """

    def go_on(self, trial: str) -> None:  # noqa: B027
        """Hear that a waiting trial goes on."""

    def end(self, trial: str, outcome: str, value: float) -> None:  # noqa: B027
        """Hear that a trial has ended, with its outcome and its best value.

        The outcome is `completed`, `stopped`, `diverged` or `failed`.
        """

    def choose(self, *, new: bool, fits: Callable[[str], bool] = lambda trial: True) -> str | None:
        """Return the next to train: a trial that waits, `NEW`, or None if there is none for now.

        A waiting trial is only chosen if its next epoch `fits` into a budget's time, and `NEW` only
        if there may be a `new` trial.
        """
        return NEW if new else None

    @property
    def ready(self) -> int:
        """The number of waiting trials that are to go on."""
        return 0

    @property
    def risk(self) -> Risk | None:
        """The risk that is taken if no trial goes on; None where nothing is known of any.

        Trials that were stopped before count as well.
        """
        return None

    @property
    def expected(self) -> dict[str, Expected]:
        """The values that trials that have not ended would reach at the horizon.

        Empty where that cannot be told.
        """
        return {}

    def why(self, trial: str) -> Stop:
        """Return the reason why a waiting trial does not continue.

        Raises:
            KeyError: no trial waits, as with a scheduler without rungs.
        """
        raise KeyError(trial)
