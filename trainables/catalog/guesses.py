"""Guesses, which are predictions that do not depend on the image, and the metrics they reach.

A trained model should be better than any guess.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from trainables.errors import printable


@dataclass(frozen=True)
class Guess:
    """A way of guessing, and the expected values of its task's metrics, by the metric's name.

    A metric whose value is not known is left out.
    """

    says: str
    """The class that is always predicted; empty if classes are drawn by their frequencies."""
    val: dict[str, float] = field(default_factory=dict)
    """The metrics on the validation set."""
    test: dict[str, float] = field(default_factory=dict)
    """The metrics on the test set; empty if there is none."""
    val_error: dict[str, float] = field(default_factory=dict)
    """Upper bounds of standard errors on the validation set (`blind_error`)."""
    test_error: dict[str, float] = field(default_factory=dict)
    """Upper bounds of standard errors on the test set (`blind_error`)."""
    method: str = ""
    """A method that learns nothing, such as `bicubic enlargement`; empty for guesses of classes."""

    @property
    def title(self) -> str:
        """The name of this guess in a table: `always 'dog'`, `class mix`."""
        if self.method:
            return self.method
        return f"always '{printable(self.says)}'" if self.says else "class mix"

    @property
    def doing(self) -> str:
        """The name of this guess in a sentence: `always predicting 'dog'`."""
        if self.method:
            return self.method
        return (
            f"always predicting '{printable(self.says)}'" if self.says else "guessing by class mix"
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Build a guess from the values of its fields; missing metrics are empty."""
        return cls(**{name: values[name] for name in cls.__match_args__ if name in values})


def commonest(train: Sequence[int], val: Sequence[int], test: Sequence[int]) -> list[int]:
    """Return the number of the commonest class of each set, without duplicates."""
    parts = [counts for counts in (val, test) if sum(counts)] or [train]
    numbers = range(len(train))
    largest = [max(numbers, key=lambda number: (own[number], train[number])) for own in parts]
    return list(dict.fromkeys(largest))
