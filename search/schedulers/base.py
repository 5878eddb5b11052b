"""What a scheduler is: it hears every finished epoch, has trials wait at rungs, and says which of
them go on.

Whatever it decides is a function of what it was told, in that order: a search that is resumed tells
it its journal again.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from search.objectives import Costs
from search.space import Params, SearchSpace

NEW = ""
"""What `choose` says when the next to train is a trial that has not begun."""


@dataclass(frozen=True)
class Setting:
    """What a scheduler may know of a search before it begins."""

    horizon: int
    """The most epochs that a trial may have."""
    space: SearchSpace = field(default_factory=lambda: SearchSpace({}))
    grace: int | None = None
    """The first rung, where the user has set it."""
    sure: float = 0.0
    """How sure the user wants to be that the best is not among those that are stopped."""


@dataclass(frozen=True)
class Stop:
    """A decision to let a trial wait, or to stop it, with what it rests on."""

    reason: str
    """In words, for people."""
    rung: int | None = None
    """The epoch at which trials were compared."""
    rivals: int | None = None
    """How many trials had reached that epoch, this one included."""
    risk: float | None = None
    """The chance, as far as the curves so far tell, that this trial would have been the best."""

    def to_dict(self) -> dict[str, Any]:
        """What is known, as plain values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Expected:
    """What a trial would come to if it went on to its end, as far as the curves so far tell: a
    Student's distribution.
    """

    mean: float
    deviation: float
    freedom: float

    def draw(self, generator: np.random.Generator, low: float, high: float) -> float:
        """One of the values that it may be, between these."""
        from scipy.special import (
            stdtr,
            stdtrit,
        )  # a tenth of a second, which no search needs to wait for at its start

        scale = max(self.deviation, 1e-9)
        below, above = (
            float(stdtr(self.freedom, (bound - self.mean) / scale)) for bound in (low, high)
        )
        if below == above:  # all that it may be lies beyond them
            return low if self.mean < low else high
        drawn = self.mean + scale * float(stdtrit(self.freedom, generator.uniform(below, above)))
        return min(max(drawn, low), high)


@dataclass(frozen=True)
class Risk:
    """That the best of all is among the trials that do not go on."""

    chance: float
    epochs: int
    """About how many more would halve it."""
    new: float
    """The chance that as many in new trials find a better one than all so far, if each is as likely
    as any before to be the best.
    """


class Scheduler(ABC):
    """Decides who trains. All of these are told once each: that a trial begins, its epochs, that it
    goes on from a rung, that it has ended.
    """

    images: int = 0
    """On how many images a value rests; 0 where that is not known."""

    def begin(self, trial: str, params: Params, training: str) -> None:  # noqa: B027 - listening is optional
        """Hear that a trial with these params begins. Trials of one `training` differ in their
        number of epochs alone: it is trained once for all.
        """

    def cost(self, trial: str, costs: Costs) -> None:  # noqa: B027
        """Hear, before a trial's first epoch, what its network costs, where the search has
        objectives beside accuracy.
        """

    @abstractmethod
    def on_epoch(self, trial: str, epoch: int, value: float) -> bool:
        """Hear a trial's best value so far (validation accuracy, higher is better) after an epoch
        (1-based). True at a rung, where it waits.
        """

    def go_on(self, trial: str) -> None:  # noqa: B027
        """Hear that a waiting trial goes on."""

    def end(self, trial: str, outcome: str, value: float) -> None:  # noqa: B027
        """Hear that a trial has ended: `completed`, `stopped`, `diverged` or `failed`; and its best
        value.
        """

    def choose(self, *, new: bool, fits: Callable[[str], bool] = lambda trial: True) -> str | None:
        """Who is to train next: a trial that waits, of those that a budget's time `fits`, `NEW` if
        there may be a `new` one, or nobody for now.
        """
        return NEW if new else None

    @property
    def ready(self) -> int:
        """How many that wait are to go on."""
        return 0

    @property
    def risk(self) -> Risk | None:
        """What is risked if nobody goes on, with those that were stopped before; None where nothing
        is known of any.
        """
        return None

    @property
    def expected(self) -> dict[str, Expected]:
        """What trials that have not ended would come to at the horizon; empty where that cannot be
        told.
        """
        return {}

    def why(self, trial: str) -> Stop:
        """Why a waiting trial does not go on."""
        raise KeyError(trial)
