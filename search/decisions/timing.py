"""Forecasts of how long the steps of a session take, so that a budget of time is kept.

The work after the last epoch (evaluation, test, pictures, MLflow's rest, leaving Ray) is up to
twice as much as importing and starting Ray, and is slowed by the same neighbours: it is forecast
from that. The next epoch of a trial is forecast from its own last one, the first of a new trial
from others'.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

from search.journal.result import TrialResult

EVALUATION_SHARE, LEAVING_SHARE = 0.5, 1.4
"""The time of evaluation and test, and of what follows them.

Both are multiples of the seconds that imports and Ray's start took.
"""
MAX_SHARE = 0.5
"""The largest share of the time that is kept for both, as most of a budget is for training.

It is a share of the seconds that are left when the first trial runs.
"""
SOONER = 0.8
"""The share of first epochs that were shorter than is expected of a new trial's."""

Entered = TypeVar("Entered")


class Waiting:
    """The seconds of a session's start spent waiting: for data, machines or another driver."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the time inside the block."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - began

    @contextmanager
    def entering(self, context: AbstractContextManager[Entered]) -> Iterator[Entered]:
        """Enter a context, and count the time until it is entered."""
        with ExitStack() as stack:
            with self.counted():
                entered = stack.enter_context(context)
            yield entered


class Timing:
    """The durations seen in a session, and forecasts from them.

    `clock` counts seconds from any start, `left` returns the seconds that the budget leaves, and
    `start_s` is the number of seconds that imports and Ray's start took.
    """

    def __init__(
        self, clock: Callable[[], float], *, left: Callable[[], float], start_s: float = 0.0
    ) -> None:
        self.clock, self.left, self.start_s = clock, left, start_s
        self._most_s: float | None = None
        """The most seconds kept for the session's end; None until a trial runs."""
        self._since: dict[str, float] = {}
        """The time of each trial's last report, or of its start."""
        self._last: dict[str, float] = {}
        """The seconds that the last epoch of each trial took, with all that belongs to it."""
        self._firsts: list[float] = []
        """The seconds that trials' first epochs took in this session."""
        self._known: dict[str, float] = {}
        """The seconds that the last epoch of each trial took by its own account.

        It may be an epoch of this session or of an earlier one.
        """
        self._longest: dict[str, float] = {}
        """The longest epoch of each model whose best trial is still to be evaluated, in seconds."""

    def running(self, trial: str) -> None:
        """Hear that a trial runs."""
        if self._most_s is None:
            self._most_s = self.most_s
        self._since[trial] = self.clock()

    def epoch(self, trial: TrialResult, epoch: int) -> None:
        """Hear that a trial has reported an epoch in this session.

        An epoch that another trial trained for it is reported in no time.
        """
        now = self.clock()
        took = now - self._since.get(trial.trial, now)
        if len(trial.epochs) == 1 and epoch in trial.own_epochs:
            self._firsts.append(took)
        self._since[trial.trial], self._last[trial.trial] = (
            now,
            max(took, trial.epochs[epoch]["time/epoch_s"]),
        )

    def hear(self, trial: TrialResult, epoch: int) -> None:
        """Hear of an epoch, of this session or an earlier one."""
        name, took = trial.config["model"]["name"], trial.epochs[epoch]["time/epoch_s"]
        self._known[trial.trial] = took
        self._longest[name] = max(took, self._longest.get(name, 0.0))

    def evaluated(self, trial: TrialResult) -> None:
        """Hear that a trial was evaluated.

        No other trial of its model need be, unless it trains further.
        """
        self._longest.pop(trial.config["model"]["name"], None)

    def forecast(self, trial: TrialResult | None) -> float:
        """Return the seconds until the next report of a trial, or of a new one; 0 if unknown."""
        if trial is not None and trial.trial in self._last:
            return self._last[trial.trial]
        if trial is not None and trial.epochs:
            return float(trial.epochs[max(trial.epochs)]["time/epoch_s"])
        others = sorted(self._firsts or self._known.values())
        return others[int(SOONER * len(others))] if others else 0.0

    @property
    def most_s(self) -> float:
        """The most seconds that are kept for the session's end.

        They change with the time that is left until a trial runs.
        """
        return max(0.0, MAX_SHARE * self.left()) if self._most_s is None else self._most_s

    @property
    def end_s(self) -> float:
        """The seconds that are kept for what follows the last epoch.

        An evaluation, and a test, of the best trial of each model take no longer than an epoch of
        it.
        """
        evaluation = EVALUATION_SHARE * self.start_s + sum(self._longest.values())
        return min(evaluation + LEAVING_SHARE * self.start_s, self.most_s)

    @property
    def leaving_s(self) -> float:
        """The part of these seconds that is for what follows the evaluation and the test."""
        return min(LEAVING_SHARE * self.start_s, self.most_s / 2)
