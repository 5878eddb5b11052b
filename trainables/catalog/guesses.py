"""Guessing: what is reached of classes without looking at an image.

Whoever looks at images is to be better than that.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from trainables.errors import printable


@dataclass(frozen=True)
class Guess:
    """A way of guessing, with the values of each metric that it reaches, by the metric's name."""

    says: str
    """The class that it always names; empty where it draws classes by their shares."""
    val: dict[str, float] = field(default_factory=dict)
    """On the validation part."""
    test: dict[str, float] = field(default_factory=dict)
    """On the test part."""
    val_error: dict[str, float] = field(default_factory=dict)
    """The standard error that a metric has without any signal, where its own would be too small."""
    test_error: dict[str, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its name in a table: `always 'dog'`, `class mix`."""
        return f"always '{printable(self.says)}'" if self.says else "class mix"

    @property
    def doing(self) -> str:
        """Its name in a sentence: `always saying 'dog'`."""
        return f"always saying '{printable(self.says)}'" if self.says else "guessing by class mix"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the guess that these plain values describe."""
        parts = ("val", "test", "val_error", "test_error")
        return cls(values["says"], *(values.get(part, {}) for part in parts))


def guesses_of(
    classes: Sequence[str], train: Sequence[int], val: Sequence[int], test: Sequence[int]
) -> list[Guess]:
    """Return the two ways to guess: always the largest class, and classes by their shares.

    Both know the training part alone.

    Args:
        classes: the names.
        train: the number of training images of each class.
        val: likewise of the validation part.
        test: likewise of the test part; all 0 where there is none.
    """
    largest, images = max(range(len(train)), key=train.__getitem__), sum(train)
    always = [float(number == largest) for number in range(len(train))]
    mix = [count / images for count in train]
    return [
        Guess(
            says, guessed(shares, val), guessed(shares, test), blind_error(val), blind_error(test)
        )
        for says, shares in ((classes[largest], always), ("", mix))
    ]


def guessed(shares: Sequence[float], counts: Sequence[int]) -> dict[str, float]:
    """Return what is to be expected of guesses that fall on classes with these shares.

    Macro F1 is that of the expected counts. A log loss that is infinite, because a class that
    occurs is never guessed, is left out.

    Args:
        shares: how often each class is guessed, and with which probability.
        counts: the number of images of each class; without any, there is no value.
    """
    if not (images := sum(counts)):
        return {}
    truth = [count / images for count in counts]
    pairs = list(zip(shares, truth, strict=True))
    found = {
        "accuracy": math.fsum(share * true for share, true in pairs),
        "balanced_accuracy": _mean(share for share, true in pairs if true),
        "macro_f1": _mean(
            2 * share * true / (share + true) for share, true in pairs if share or true
        ),
        "auc": 0.5,
    }
    if all(share for share, true in pairs if true):
        found["log_loss"] = -math.fsum(true * math.log(share) for share, true in pairs if true)
    return found


def blind_error(counts: Sequence[int]) -> dict[str, float]:
    """Return the standard error of AUC without any signal, by Mann and Whitney 1947.

    The metric's own vanishes as the area nears 1, which two images of a class may well be by luck.

    Args:
        counts: the number of images of each class.
    """
    images = sum(counts)
    known = [count for count in counts if 0 < count < images]
    if not known:
        return {}
    mean = _mean((images + 1) / (12 * count * (images - count)) for count in known)
    return {"auc": math.sqrt(mean / (1 if len(known) == 2 else len(known)))}


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return math.fsum(found) / len(found)
