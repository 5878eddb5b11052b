"""Comparison of trials with guessing, which is the best that is possible without the images.

A training that was evaluated on the test set is compared there, because the test set was not used
to select it, unless it is below the guess on the validation set. All others are compared on the
validation set. There, the best of many trials and epochs owes part of its value to luck, so all
epochs share the error rate.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from search.journal.result import SearchResult, TrialResult
from search.values.statistics import error_rate_per_look, student_width
from trainables.catalog.entries import WIDTH, Metric
from trainables.catalog.guesses import Guess
from trainables.statistics import share_bounds
from trainables.values import Json

ERROR_RATE = 0.05
"""The maximum share of searches that are called better than guessing although their images contain
no information on the classes.
"""
TESTED_RATE = 0.03
"""The error rate of the tests for metrics that are not a share of the images.

It is below `ERROR_RATE`, because the distributions of these metrics are only approximately what the
tests assume. `tests/bench/rates/guessing.py` measures the actual error rate.
"""


@dataclass(frozen=True)
class AgainstGuessing:
    """A training's value compared with that of the best guess on the same images."""

    guess: Guess
    metric: Metric
    part: str
    """`test` or `validation`."""
    images: int
    value: float
    guessed: float
    """The value of the guess."""
    low: float
    """Lower confidence bound of `difference`; above 0 if the value is significantly better."""
    high: float
    """Upper confidence bound of `difference`."""
    looks: int
    """The number of epochs that share the error rate."""

    @property
    def difference(self) -> float:
        """The value's score minus that of the guess; negative if the guess is better."""
        return self.metric.score(self.value) - self.metric.score(self.guessed)

    @property
    def is_above(self) -> bool:
        """True if the value is significantly better than the guess."""
        return self.low > 0


@dataclass(frozen=True)
class Guessing:
    """The ways to guess with which the trials of a search are compared."""

    result: SearchResult
    guesses: list[Guess]

    @classmethod
    def of(cls, result: SearchResult) -> Self | None:
        """Return the guesses that a search's journal describes.

        None if there are none, because the task has no classes or an earlier version wrote the
        journal.
        """
        guesses = [Guess.from_json(each) for each in result.started.data.get("guesses", ())]
        usable = [guess for guess in guesses if result.metric.name in guess.val]
        return cls(result, usable) if usable else None

    @property
    def metric(self) -> Metric:
        """The metric by which trials are ranked."""
        return self.result.metric

    @cached_property
    def looks(self) -> int:
        """The number of epochs that were measured on the validation set.

        If trials differ only in length, only the epochs of the one that trained furthest count.
        """
        selection = self.result.selection
        again = selection.trainings.values() if selection is not None else ()
        trainings = [*self.result.distinct, *again]
        return sum(len(trial.epochs) for trial in trainings)

    def best(self, part: str, metric: Metric | None = None) -> Guess | None:
        """Return the best guess on `val` or `test`; None if no guess has the metric there.

        The default metric is the one by which trials are ranked.
        """
        by, name = metric or self.metric, (metric or self.metric).name
        candidates = [guess for guess in self.guesses if name in getattr(guess, part)]
        return max(candidates, key=lambda guess: by.score(getattr(guess, part)[name]), default=None)

    @cached_property
    def tests(self) -> dict[str, Json]:
        """The evaluations on the test set, by the name of the training."""
        result, last_test = self.result, self.result.tested
        trainings = (
            result.chosen,
            result.trials.get(last_test.trial) if last_test is not None else None,
        )
        evaluations = {
            trial.trial: result.test_of(trial) for trial in trainings if trial is not None
        }
        return {name: test for name, test in evaluations.items() if test}

    def against(self, trial: TrialResult) -> AgainstGuessing | None:
        """Compare a training with guessing, on the test set if it was evaluated there.

        It is compared on the validation set nevertheless if it is below the guess there: a better
        value on the test set is then luck, or comes from another mix of classes. None if the
        training has no epoch, or if the metric of guessing is not known.
        """
        on_validation, test = self._on_validation(trial), self.tests.get(trial.trial)
        if test is None or (guess := self.best("test")) is None:
            return on_validation
        if on_validation is not None and on_validation.difference < 0:
            return on_validation
        value, error = _tested(test, self.metric)
        return self._compared(guess, "test", int(test["images"]), value, error)

    def _on_validation(self, trial: TrialResult) -> AgainstGuessing | None:
        """Compare a training with guessing on the validation set, as `against` does."""
        guess, images = self.best("val"), self.result.images
        if guess is None or not trial.epochs or math.isnan(trial.value):
            return None
        return self._compared(guess, "validation", images, trial.value, trial.error(images))

    def _compared(
        self, guess: Guess, part: str, images: int, value: float, error: float
    ) -> AgainstGuessing:
        metric, is_test = self.metric, part == "test"
        looks = 1 if is_test else self.looks
        guessed = (guess.test if is_test else guess.val)[metric.name]
        blind = (guess.test_error if is_test else guess.val_error).get(metric.name, 0.0)
        if metric.is_share:
            ends = share_bounds(value, images, error_rate_per_look(ERROR_RATE, looks))
        else:
            rate = error_rate_per_look(TESTED_RATE, looks)
            width = student_width(max(error, blind), images, rate)
            # Continuity correction: the value changes in steps of about 1 / images.
            width += 0.5 / images if metric.is_fraction else 0.0
            ends = value - width, value + width
        low, high = sorted(metric.score(end) - metric.score(guessed) for end in ends)
        return AgainstGuessing(guess, metric, part, images, value, guessed, low, high, looks)

    def is_at_chance(self, trial: TrialResult) -> bool:
        """True if a trial is not significantly better than guessing; False if it is not known."""
        comparison = self.against(trial)
        return comparison is not None and not comparison.is_above


def _tested(test: Json, metric: Metric) -> tuple[float, float]:
    """Return a metric's value in an evaluation, and its standard error.

    The error is 0 for a share, whose interval is computed from the number of images.
    """
    if metric.is_share:
        return float(test[metric.name]), 0.0
    reported = test["metric"]
    value = float(reported["value"])
    if "error" in reported:
        return value, float(reported["error"])
    # Earlier versions wrote only the interval. One end may be clipped to the metric's range, so the
    # larger half is used.
    return value, max(value - float(reported["low"]), float(reported["high"]) - value) / WIDTH


def is_tie(result: SearchResult) -> bool:
    """True if there are several trainings and all have the same value."""
    values = [trial.value for trial in result.distinct]
    return len(values) > 1 and max(values) - min(values) < 1e-9


def answer_against(result: SearchResult) -> AgainstGuessing | None:
    """Compare a search's answer (`SearchResult.chosen`) with guessing; None if not possible."""
    guessing, answer = Guessing.of(result), result.chosen
    return guessing.against(answer) if guessing is not None and answer is not None else None


def is_answer_at_chance(result: SearchResult) -> bool:
    """True if a search's answer can be compared, and is not significantly better than guessing."""
    comparison = answer_against(result)
    return comparison is not None and not comparison.is_above
