"""Trials against guessing: is a value better than what is reached without looking at an image?

The test part answers where it was opened for a training, since nothing was chosen by it. Before
that the validation part does. There the best of many trials and epochs is partly lucky, so that all
looks at it share the error rate.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from search.journal.result import SearchResult, TrialResult
from search.values.statistics import error_rate_per_look, share_bounds, student_width
from trainables.catalog.guesses import Guess
from trainables.catalog.tasks import WIDTH, Metric
from trainables.values import Json

ERROR_RATE = 0.05
"""The share of searches without any signal that may be called better than guessing, at most."""
TESTED_RATE = 0.03
"""The error rate at which metrics that are no share of the images are tested.

Their distributions are only nearly those that the tests take them for, so part of the promised rate
is kept for that. Measured by `tests/bench/rates/guessing.py`.
"""


@dataclass(frozen=True)
class AgainstGuessing:
    """A training's value beside that of the best guess on the same images."""

    guess: Guess
    metric: Metric
    part: str
    """`test` or `validation`."""
    images: int
    value: float
    guessed: float
    """The value that the guess reaches."""
    low: float
    """The least that the value is better by, at the error rate; below 0 where it may be worse."""
    high: float
    """The most that it is better by, likewise."""
    looks: int
    """The number of epochs that share the error rate."""

    @property
    def difference(self) -> float:
        """The lead of the value over the guess; negative where the guess is better."""
        return self.metric.score(self.value) - self.metric.score(self.guessed)

    @property
    def is_above(self) -> bool:
        """True if the value is better than the guess by more than noise."""
        return self.low > 0


@dataclass(frozen=True)
class Guessing:
    """Ways to guess on a search's images, beside which its trials are held."""

    result: SearchResult
    guesses: list[Guess]

    @classmethod
    def of(cls, result: SearchResult) -> Self | None:
        """Return it for a search as it is now.

        None where nothing is known of guessing: of a task without classes, or in a journal of an
        earlier version.
        """
        found = [Guess.from_json(each) for each in result.started.data.get("guesses", ())]
        known = [guess for guess in found if result.metric.name in guess.val]
        return cls(result, known) if known else None

    @property
    def metric(self) -> Metric:
        """The metric by which trials are ranked."""
        return self.result.metric

    @cached_property
    def looks(self) -> int:
        """The number of epochs that were measured on the validation part.

        Of trials that are one training in several lengths they count once.
        """
        repeats = self.result.selection.repeats if self.result.selection is not None else {}
        trainings = [*self.result.distinct, *repeats.values()]
        return sum(len(trial.epochs) for trial in trainings)

    def best(self, part: str, metric: Metric | None = None) -> Guess | None:
        """Return the guess that is best on a part, `val` or `test`; of equal ones the first.

        None where no guess has the metric there, by default that by which trials are ranked.
        """
        by, name = metric or self.metric, (metric or self.metric).name
        known = [guess for guess in self.guesses if name in getattr(guess, part)]
        return max(known, key=lambda guess: by.score(getattr(guess, part)[name]), default=None)

    @cached_property
    def tests(self) -> dict[str, Json]:
        """The evaluations on the test part, by the training for which it was opened."""
        result, tested = self.result, self.result.tested
        known = (result.chosen, result.trials.get(tested.trial) if tested is not None else None)
        found = {trial.trial: result.test_of(trial) for trial in known if trial is not None}
        return {name: test for name, test in found.items() if test}

    def against(self, trial: TrialResult) -> AgainstGuessing | None:
        """Return how a training compares, on the test part where it was opened for it.

        None of a trial without an epoch.
        """
        test = self.tests.get(trial.trial)
        if test is not None and (guess := self.best("test")) is not None:
            value, error = _tested(test, self.metric)
            return self._compared(guess, "test", int(test["images"]), value, error)
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
            # A value moves in steps of about an image: half of one may be luck (continuity).
            width += 0.5 / images if metric.is_fraction else 0.0
            ends = value - width, value + width
        low, high = sorted(metric.score(end) - metric.score(guessed) for end in ends)
        return AgainstGuessing(guess, metric, part, images, value, guessed, low, high, looks)

    def is_at_chance(self, trial: TrialResult) -> bool:
        """Return whether a training is known, and not better than guessing by more than noise."""
        found = self.against(trial)
        return found is not None and not found.is_above


def _tested(test: Json, metric: Metric) -> tuple[float, float]:
    """Return a metric's value in an evaluation, and its standard error if it is no share."""
    if metric.is_share:
        return float(test[metric.name]), 0.0
    told = test["metric"]
    value = float(told["value"])
    if "error" in told:
        return value, float(told["error"])
    # An earlier version has only the interval, one end of which may be cut off at what it can be.
    return value, max(value - float(told["low"]), float(told["high"]) - value) / WIDTH


def is_tie(result: SearchResult) -> bool:
    """Return whether there are several trainings and all have the same value."""
    values = [trial.value for trial in result.distinct]
    return len(values) > 1 and max(values) - min(values) < 1e-9


def answer_against(result: SearchResult) -> AgainstGuessing | None:
    """Return how a search's answer, what a selection chose or else the best, compares."""
    guessing, answer = Guessing.of(result), result.chosen
    return guessing.against(answer) if guessing is not None and answer is not None else None


def is_answer_at_chance(result: SearchResult) -> bool:
    """Return whether a search's answer is known to be no better than guessing."""
    found = answer_against(result)
    return found is not None and not found.is_above
