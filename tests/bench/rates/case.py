"""A case on which promises of the product are measured, and whether they hold there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.stats import binomtest

ERROR_SLACK = 1.5
"""An error rate holds if the upper end of its interval is at most so many times the promise."""
POWER_SLACK = 0.1
"""A power holds if it is measured within this much of the promise."""


@dataclass(frozen=True)
class Promise:
    """How often something happens, as the product states it."""

    kind: Literal["error rate", "interval", "power"]
    """What happens: a mistake, that an interval covers the truth, that a change is detected."""
    share: float
    """The stated share of the cases in which it happens, between 0 and 1."""


@dataclass(frozen=True)
class Case:
    """Made-up data of one kind, on which the product's own code is run again and again."""

    feature: str
    """The part of the product that states the promises, such as `search.compare`."""
    title: str
    """The data, such as `30 classes, accuracy 0.99, 200 images`."""
    promises: Mapping[str, Promise]
    """The promises that are measured on it, by a short name, such as `false alarm`."""
    play: Callable[[np.random.Generator], Mapping[str, bool | None]]
    """Play it once; True for each promise whose event happened, None where nothing was stated."""
    repetitions: int = 1000


@dataclass
class Tally:
    """How often the event of one promise happened."""

    happened: int = 0
    stated: int = 0
    """The repetitions in which the product stated anything."""

    def add(self, event: bool | None) -> None:
        """Count one repetition."""
        if event is not None:
            self.stated += 1
            self.happened += event

    @property
    def share(self) -> float:
        """The measured share; NaN if nothing was ever stated."""
        return self.happened / self.stated if self.stated else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share (Clopper and Pearson)."""
        if not self.stated:
            return 0.0, 1.0
        bounds = binomtest(self.happened, self.stated).proportion_ci(0.95)
        return float(bounds.low), float(bounds.high)


@dataclass
class Measured:
    """One case after its repetitions."""

    case: Case
    tallies: dict[str, Tally] = field(default_factory=dict)


def measure(case: Case, repetitions: int, seed: int = 0) -> Measured:
    """Play a case so many times, each time with a generator of its own."""
    measured = Measured(case, {name: Tally() for name in case.promises})
    for stream in np.random.SeedSequence(seed).spawn(repetitions):
        events = case.play(np.random.default_rng(stream))
        for name, tally in measured.tallies.items():
            tally.add(events[name])
    return measured


def holds(promise: Promise, tally: Tally) -> bool:
    """Check whether a measured share agrees with its promise.

    A share of mistakes may not exceed its promise, nor the upper end of its interval 1.5 times it.
    An interval that misses the truth is a mistake. A power may differ by 10 points. Where nothing
    was ever stated, nothing was broken.
    """
    if not tally.stated:
        return True
    low, high = tally.interval
    if promise.kind == "power":
        return abs(tally.share - promise.share) <= POWER_SLACK
    if promise.kind == "interval":
        missed, most = 1 - tally.share, 1 - low
        allowed = 1 - promise.share
    else:
        missed, most, allowed = tally.share, high, promise.share
    return missed <= allowed and most <= ERROR_SLACK * allowed
