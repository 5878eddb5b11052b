"""Forecasts of durations in a session, so that the session stays within its time budget.

The end of a session (evaluation, test, pictures, MLflow, shutdown of Ray) takes up to twice as long
as its start (imports, Ray). If other processes slow down the machine, start and end become longer
by the same factor. So the end is forecast from the start. The next epoch of a trial is forecast
from its last one, and the first epoch of a new trial from the first epochs of other trials, if
possible with the same model and size of images.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

from search.journal.result import TrialResult

EVALUATION_SHARE, LEAVING_SHARE = 0.5, 1.4
"""The time of evaluation and test, and of the rest of a session's end, as multiples of the seconds
that imports and the start of Ray took.
"""
MAX_SHARE = 0.5
"""The maximum share of the remaining time that is reserved for the end of a session.

The remaining time is read when the first trial starts. Most of it should be used for training.
"""
SOONER = 0.8
"""The forecast for a new trial's first epoch is this quantile of the durations of first epochs."""

FORWARD_SHARE = 0.5
"""The time of an input in an evaluation, as a share of its time in training: it is about a third.
"""

Entered = TypeVar("Entered")

Model = tuple[str, int | None]
"""The name of a model, and the side to which it resizes images, in pixels (None if it does not)."""


def evaluation_epochs(trained: int, evaluated: int) -> float:
    """Return an upper bound on the time of an evaluation and a test, in epochs; at most 1.

    Args:
        trained: the number of inputs, images or crops of them, of an epoch.
        evaluated: the number of inputs, images or tiles of them, of the validation and the test set
            together.
    """
    return min(1.0, FORWARD_SHARE * evaluated / max(1, trained))


def model_of(trial: TrialResult) -> Model:
    """Return the model of a trial."""
    model = trial.config["model"]
    return model["name"], model.get("input_size")


def quantile(durations: Iterable[float]) -> float:
    """Return the quantile `SOONER` of durations; 0 if there are none."""
    ordered = sorted(durations)
    return ordered[int(SOONER * len(ordered))] if ordered else 0.0


class WaitingTime:
    """Counts the seconds of a session's start that are spent waiting, such as for machines."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    @contextmanager
    def counting(self) -> Iterator[None]:
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
            with self.counting():
                entered = stack.enter_context(context)
            yield entered


class Timing:
    """The durations in a session so far, and forecasts from them.

    `clock` is a monotonic clock in seconds, `time_left` returns the seconds that remain of the
    budget, and `start_s` is the number of seconds that imports and the start of Ray took.
    """

    def __init__(
        self, clock: Callable[[], float], *, time_left: Callable[[], float], start_s: float = 0.0
    ) -> None:
        self.clock, self.time_left, self.start_s = clock, time_left, start_s
        self.evaluation_epochs = 1.0
        """The time of an evaluation and a test, at most, in epochs of the model."""
        self._most_s: float | None = None
        """The maximum number of seconds reserved for the end; None until a trial runs."""
        self._last_report_at: dict[str, float] = {}
        """Maps trials to the reading of the clock at their last report, or at their start."""
        self._last_s: dict[str, float] = {}
        """Maps trials to the seconds between their last two reports."""
        self._first_s: dict[Model, list[float]] = {}
        """The durations, in seconds, of the first epochs of trials in this session, by model."""
        self._reported_s: dict[str, float] = {}
        """Maps trials to the reported duration of their last epoch, in seconds, in any session."""
        self._longest_s: dict[str, float] = {}
        """Maps models without an evaluated trial to the seconds of their longest epoch."""

    def start_trial(self, trial: str) -> None:
        """Record that a trial starts to run now."""
        if self._most_s is None:
            self._most_s = self.most_s
        self._last_report_at[trial] = self.clock()

    def end_epoch(self, trial: TrialResult, epoch: int) -> None:
        """Record that a trial reports an epoch now.

        A first epoch that is inherited from a relative does not count, since it takes no time.
        """
        now = self.clock()
        duration_s = now - self._last_report_at.get(trial.trial, now)
        if len(trial.epochs) == 1 and epoch in trial.own_epochs:
            self._first_s.setdefault(model_of(trial), []).append(duration_s)
        self._last_report_at[trial.trial], self._last_s[trial.trial] = (
            now,
            max(duration_s, trial.epochs[epoch]["time/epoch_s"]),
        )

    def record_epoch(self, trial: TrialResult, epoch: int) -> None:
        """Record the duration of an epoch, of this session or an earlier one."""
        name, duration_s = trial.config["model"]["name"], trial.epochs[epoch]["time/epoch_s"]
        self._reported_s[trial.trial] = duration_s
        self._longest_s[name] = max(duration_s, self._longest_s.get(name, 0.0))

    def record_evaluation(self, trial: TrialResult) -> None:
        """Record that a trial was evaluated, so that no more time is reserved for its model."""
        self._longest_s.pop(trial.config["model"]["name"], None)

    def forecast(self, trial: TrialResult | None) -> float:
        """Forecast the seconds until the next report of a trial; 0 if unknown.

        `trial` is None for a trial that is not proposed yet. As its model may be any of those that
        were tried, the forecast is that of the fastest one.
        """
        if trial is not None and trial.trial in self._last_s:
            return self._last_s[trial.trial]
        if trial is not None and trial.epochs:
            return float(trial.epochs[max(trial.epochs)]["time/epoch_s"])
        if not self._first_s:
            return quantile(self._reported_s.values())
        by_model = {model: quantile(each) for model, each in self._first_s.items()}
        if trial is None:
            return min(by_model.values())
        of_all = quantile(each for some in self._first_s.values() for each in some)
        return by_model.get(model_of(trial), of_all)

    @property
    def most_s(self) -> float:
        """The maximum number of seconds that are reserved for the session's end.

        It changes with the remaining time until the first trial runs.
        """
        return max(0.0, MAX_SHARE * self.time_left()) if self._most_s is None else self._most_s

    @property
    def end_s(self) -> float:
        """The seconds that are reserved for the end, after the last epoch.

        For each model, evaluating and testing its best trial is assumed to take no longer than
        `evaluation_epochs`.
        """
        of_models = self.evaluation_epochs * sum(self._longest_s.values())
        evaluation = EVALUATION_SHARE * self.start_s + of_models
        return min(evaluation + LEAVING_SHARE * self.start_s, self.most_s)

    @property
    def leaving_s(self) -> float:
        """The part of `end_s` that is reserved for the steps after evaluation and test."""
        return min(LEAVING_SHARE * self.start_s, self.most_s / 2)
