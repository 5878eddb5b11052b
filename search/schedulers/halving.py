"""Asynchronous successive halving with a fixed share, which stops (Li et al. 2018, section 4).

As Ray Tune's `ASHAScheduler` at its defaults, except that it sees the best value so far instead of
that of the epoch itself: at rungs 1, 4, 16 ... a trial continues if it is not below the best
quarter of those that came there before it. A trial that was stopped does not continue later.
"""

import numpy as np

from search.schedulers.base import Scheduler, Setting, Stop
from search.schedulers.rungs import rungs_for

REDUCTION = 4
"""One in so many continues from a rung; the default of Ray Tune."""


class Halving(Scheduler):
    """Halving that stops; `reduction` is the ratio of rungs and of the trials that continue."""

    title, summary = "successive halving", "keep a fixed share at each rung"

    def __init__(self, setting: Setting, reduction: int = REDUCTION) -> None:
        self.reduction = reduction
        rungs = rungs_for(setting.horizon, setting.grace or 1, reduction)
        self.values: dict[int, list[float]] = {rung: [] for rung in rungs}
        """The values of the trials that came to each rung, in this order."""
        self._stops: dict[str, Stop] = {}
        """Why each trial that waits was stopped."""

    def on_epoch(self, trial: str, epoch: int, value: float) -> bool:
        """Return True at a rung, if the value is below those that continue."""
        before = self.values.get(epoch)
        if before is None:
            return False
        least = np.percentile(before, 100 * (1 - 1 / self.reduction)) if before else -np.inf
        before.append(value)
        if value >= least:
            return False
        place = 1 + sum(earlier > value for earlier in before)
        reason = (
            f"place {place} of {len(before)} at epoch {epoch}; the best 1/{self.reduction} continue"
        )
        self._stops[trial] = Stop(reason, rung=epoch, rivals=len(before))
        return True

    def why(self, trial: str) -> Stop:
        """Return the place of a trial at its rung."""
        return self._stops[trial]
