"""The median stopping rule (Golovin et al. 2017, "Google Vizier", section 3.2.2).

A trial stops if its best value so far is below the median, over the other trials, of the mean of
their values until the same epoch. It needs no rungs, and saves at most about half of the epochs.
"""

from collections import defaultdict

import numpy as np

from search.schedulers.base import Scheduler, Setting, Stop

FIRST_SHARE = 0.05
"""The first epoch at which a trial may stop, as a share of the longest trial."""
MIN_TRIALS = 3
"""The least number of other trials; the default of Ray Tune's `MedianStoppingRule`."""


class Median(Scheduler):
    """Median stopping from a `share` of the longest trial on, or from `Setting.grace`."""

    title, summary = "the median rule", "stop trials that are below the median"

    def __init__(self, setting: Setting, share: float = FIRST_SHARE) -> None:
        self.first = setting.grace or max(1, round(share * setting.horizon))
        self.sums: dict[str, float] = defaultdict(float)
        self.means: dict[int, dict[str, float]] = defaultdict(dict)
        """For each epoch, the mean of each trial's values until then."""
        self._stops: dict[str, Stop] = {}

    def on_epoch(self, trial: str, epoch: int, value: float) -> bool:
        """Return True if the value is below the median."""
        self.sums[trial] += value
        rivals = list(self.means[epoch].values())
        self.means[epoch][trial] = self.sums[trial] / epoch
        if epoch < self.first or len(rivals) < MIN_TRIALS or value >= np.median(rivals):
            return False
        reason = f"below the median of {len(rivals)} trials at epoch {epoch}"
        self._stops[trial] = Stop(reason, rung=epoch, rivals=len(rivals) + 1)
        return True

    def why(self, trial: str) -> Stop:
        """Return the reason why a trial waits."""
        return self._stops[trial]
