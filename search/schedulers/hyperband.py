"""Asynchronous Hyperband (Li et al. 2018): halving in several brackets, whose first rungs differ.

Each trial is in one bracket, and stops only by comparison within it. So trials that are slow at
first get a chance in a bracket that looks later. As in Ray Tune, a bracket's share of the trials is
in proportion to exp(number of its rungs).
"""

from dataclasses import replace

import numpy as np

from search.schedulers.base import Scheduler, Setting, Stop, TrialCourse
from search.schedulers.halving import Halving
from trainables.values import Params

BRACKETS, REDUCTION = 3, 3
"""The number of brackets, and the reduction within each; Hyperband's usual reduction."""


class Hyperband(Scheduler):
    """Several brackets of halving that stops."""

    title, summary = "Hyperband", "the same from several first rungs"

    def __init__(
        self, setting: Setting, brackets: int = BRACKETS, reduction: int = REDUCTION
    ) -> None:
        grace = setting.grace or 1
        self.brackets = [
            Halving(replace(setting, grace=grace * reduction**number), reduction)
            for number in range(brackets)
        ]
        sizes = np.exp([len(bracket.values) for bracket in self.brackets])
        self.shares = sizes / sizes.sum()
        self.members = np.zeros(brackets)
        """The number of trials in each bracket."""
        self._bracket: dict[str, Halving] = {}

    def begin(
        self, trial: str, params: Params, training: str, course: TrialCourse | None = None
    ) -> None:
        """Put a trial into the bracket that is furthest behind its share."""
        number = int((self.shares * (1 + self.members.sum()) - self.members).argmax())
        self.members[number] += 1
        self._bracket[trial] = self.brackets[number]

    def on_epoch(self, trial: str, epoch: int, value: float) -> bool:
        """Return True at a rung of the trial's bracket, if it stops there."""
        return self._bracket[trial].on_epoch(trial, epoch, value)

    def why(self, trial: str) -> Stop:
        """Return the place of a trial at its rung."""
        return self._bracket[trial].why(trial)
