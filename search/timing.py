"""How long things take in a session, as far as has been seen, so that a budget of time is kept.

What follows the last epoch (evaluation, test, pictures, MLflow's rest, leaving Ray) is about as much
work as a session's start, and is slowed by the same neighbours: it is forecast from that. The next
epoch of a trial is forecast from its own last one, the first of a new trial from other trials'.
"""

import math
from collections.abc import Callable

from search.result import TrialResult

EVALUATION_SHARE, LEAVING_SHARE = 0.4, 0.6
"""Of the seconds until the first trial ran: what evaluation and test take, and what follows them."""
MOST_SHARE = 0.5
"""Of the seconds that are left when the first trial runs, for both: most of a budget is for training."""
SOONER = 0.8
"""The share of first epochs that ended sooner than is expected of a new trial's."""


class Timing:
    """Hears what happens in a session; `clock` counts seconds from anywhere."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.start_s, self.most_s = 0.0, math.inf
        """The time until the first trial ran, and the most that is kept for the session's end."""
        self._started = False
        self._since: dict[str, float] = {}
        self._last: dict[str, float] = {}
        """How long the last epoch of each trial took, with all that belongs to it."""
        self._firsts: list[float] = []
        self._longest: dict[str, float] = {}
        """The longest epoch of each model."""

    def running(self, trial: str, used_s: float, left_s: float) -> None:
        """Hear that a trial runs, so long after the command began, with so much of the budget left."""
        if not self._started:
            self._started, self.start_s, self.most_s = True, used_s, max(0.0, MOST_SHARE * left_s)
        self._since[trial] = self.clock()

    def epoch(self, trial: str, *, is_first: bool) -> None:
        """Hear that a trial has ended an epoch in this session, its first or a later one."""
        now = self.clock()
        took = now - self._since.get(trial, now)
        if is_first:
            self._firsts.append(took)
        self._since[trial], self._last[trial] = now, took

    def hear(self, trial: TrialResult, epoch: int) -> None:
        """Hear of an epoch, of this session or an earlier one."""
        name, took = trial.config["model"]["name"], trial.epochs[epoch]["time/epoch_s"]
        self._longest[name] = max(took, self._longest.get(name, 0.0))

    def forecast(self, trial: TrialResult | None) -> float:
        """Seconds until the next report of a trial, or of a new one; 0 where nothing is known."""
        if trial is not None and trial.trial in self._last:
            return self._last[trial.trial]
        if trial is not None and trial.epochs:
            return float(trial.epochs[max(trial.epochs)]["time/epoch_s"])
        return sorted(self._firsts)[int(SOONER * len(self._firsts))] if self._firsts else 0.0

    @property
    def end_s(self) -> float:
        """Seconds that are kept for what follows the last epoch: an evaluation, and a test, of the
        best trial of each model take no longer than an epoch of it.
        """
        evaluation = EVALUATION_SHARE * self.start_s + sum(self._longest.values())
        return min(evaluation + LEAVING_SHARE * self.start_s, self.most_s)

    @property
    def leaving_s(self) -> float:
        """Those of them for what follows the evaluation and the test."""
        return min(LEAVING_SHARE * self.start_s, self.most_s / 2)
