"""Everything that is asked of what a model has met, and what came of it."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np

from search.feedback.monitoring.class_mix import ClassShare, class_shares
from search.feedback.monitoring.class_mix import needed as needed_for_class
from search.feedback.monitoring.correctness import (
    Accuracy,
    Calibration,
    Judged,
    Parts,
    Suggested,
    accuracy,
    accuracy_fell,
    calibration,
    calibration_differs,
    change_is_seen,
    smoothed,
    suggested,
)
from search.feedback.monitoring.drift import (
    LEAST_DEVIATION,
    features_differ,
    mix_differs,
    outputs_differ,
    unlike,
)
from search.feedback.monitoring.held_to import LEAST, VALIDATION, HeldTo, validation
from search.feedback.monitoring.window import Window
from search.statistics import shared
from trainables.export.image_features import shown
from trainables.export.reference import Reference

RATE = 0.05
"""The false-alarm rate of all tests together."""
SEED = 20
POWER = 0.8
"""The probability with which a change of the stated size is to be seen."""
QUARTER, DEVIATIONS, DROP, SURER = 0.25, 3.0, 0.05, 0.1
"""The stated sizes: a quarter of the images answered unlike any before; a quarter of them three
standard deviations away; an accuracy lower by 5 points; a confidence off by 10 points.
"""
LARGEST = 10_000_000
OUTPUTS, FEATURES, MIX = "outputs", "features", "class mix"
ACCURACY, CALIBRATION = "accuracy", "calibration"
UNLIKE = 12
"""The number of images that are named as most unlike those that they are held to."""


@dataclass(frozen=True)
class Check:
    """A test."""

    name: str
    images: int
    """The new images that it had."""
    p: float
    """The probability of so large a difference if nothing had changed."""
    rate: float
    """Its share of the false-alarm rate: it says `changed` if `p` is at most that."""
    size: str
    """The size of a change that ought to be seen, in words."""
    needed: int | None
    """The images with which that is seen four times of five; None if no number is enough, for want
    of images that they are held to.
    """

    @property
    def changed(self) -> bool:
        """True if more has changed than noise explains."""
        return self.p <= self.rate

    @property
    def is_enough(self) -> bool:
        """True if there were images enough to see a change of that size."""
        return self.needed is not None and self.images >= self.needed


@dataclass
class Findings:
    """The findings of all tests."""

    model: str
    version: str
    first_ms: int
    last_ms: int
    """The times of the first and the last answer that is tested."""
    answered: int
    images: int
    """The answers in this time, and the different images that are tested of them."""
    others: dict[str, int]
    """The answers by each other version."""
    rate: float
    corrected: int
    by_visitors: int
    validation_accuracy: float | None = None
    """None where nothing is known of the validation images: with folds."""
    held_to: str = VALIDATION
    """The images that new ones are held to, in words."""
    is_improved: bool = False
    """True of a model that `search.improve` has registered, which knows what was met before."""
    accuracy_held_to: str = VALIDATION
    accuracy_before: float | None = None
    """The images that accuracy and calibration are held to, and the accuracy on these."""
    labelled: int = 0
    """Their number, however few."""
    outputs_held_to: int = 0
    """The number of the images `held_to` whose probabilities count."""
    met_again: int = 0
    """The images in this time that the version was trained on: its answers on them do not count."""
    learned: int = 0
    """The corrected ones of these, which accuracy and calibration leave out."""
    checks: list[Check] = field(default_factory=list)
    shares: list[ClassShare] = field(default_factory=list)
    accuracy: Accuracy | None = None
    is_covered: bool = True
    """False if too few are corrected of those of which the model was sure (or unsure)."""
    calibration: Calibration | None = None
    suggested: Suggested | None = None
    moved: dict[str, float] = field(default_factory=dict)
    """The mean change of brightness, contrast and so on (`shown`) from the images `held_to`, in
    standard deviations of those.
    """
    unlike: list[str] = field(default_factory=list)
    """The names of the images of the sample that are most unlike those."""

    @property
    def changed(self) -> list[str]:
        """The names of the tests that found a change."""
        return [check.name for check in self.checks if check.changed]

    def check(self, name: str) -> Check | None:
        """Return the test of this name; None if it could not be made."""
        return next((check for check in self.checks if check.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        checks = [
            {**asdict(check), "changed": check.changed, "is_enough": check.is_enough}
            for check in self.checks
        ]
        return {**asdict(self), "changed": self.changed, "checks": checks}


@dataclass(frozen=True)
class Test:
    """A test that can be made."""

    name: str
    images: int
    size: str
    run: Callable[[], float]
    """Gives its `Check.p`."""
    sees: Callable[[int, float], bool]
    """Tells of a number of images and a rate whether a change of that size is seen."""


def find(model: str, reference: Reference, window: Window, rate: float = RATE) -> Findings:
    """Put all tests that can be made to a window.

    Args:
        model: what the model is called in texts.
        reference: its own.
        window: what it has met.
        rate: the false-alarm rate of all tests together.
    """
    found = Findings(
        model,
        window.version,
        window.answers[0].time_ms,
        window.answers[-1].time_ms,
        window.answered,
        len(window.answers),
        window.others,
        rate,
        len(window.corrected),
        window.by_visitors,
        is_improved=reference.met is not None,
        met_again=len(window.trained),
        learned=window.learned,
    )
    generator = np.random.default_rng(SEED)
    held = HeldTo.of(reference)
    tests = tests_of(reference, window, generator)
    own = shared(rate, len(tests))
    for test in tests:
        needed = _least(partial(_sees, test, own))
        found.checks.append(Check(test.name, test.images, test.run(), own, test.size, needed))
    found.held_to, found.accuracy_held_to = held.title, held.judged_title
    found.labelled, found.outputs_held_to = held.labelled, len(held.probabilities)
    _estimate(found, reference, held, window, generator)
    return found


def tests_of(reference: Reference, window: Window, generator: np.random.Generator) -> list[Test]:
    """Return the tests that can be made of a window; each has its share of the rate."""
    held = HeldTo.of(reference)
    return [
        *_of_images(held, window, generator),
        *_of_answers(reference, held, window, generator),
        *_of_corrected(held, window, generator),
    ]


def _of_images(held: HeldTo, window: Window, generator: np.random.Generator) -> list[Test]:
    """Return the test of the images themselves."""
    if min(len(window.features), len(held.features)) < LEAST:
        return []
    before, now = held.features, window.features

    def sees(n: int, rate: float) -> bool:
        m, dimensions = len(before), before.shape[1]
        moved = (QUARTER * DEVIATIONS) ** 2 * n * m / (n + m)
        return moved >= math.sqrt(2 * dimensions) * (_z(1 - rate) + _z(POWER))

    size = f"a quarter of the images {DEVIATIONS:.0f} standard deviations from the usual"
    return [Test(FEATURES, len(now), size, lambda: features_differ(before, now, generator), sees)]


def _of_answers(
    reference: Reference, held: HeldTo, window: Window, generator: np.random.Generator
) -> list[Test]:
    """Return the tests of what was answered."""
    before, now = held.probabilities, window.probabilities
    if min(len(before), len(now)) < LEAST:
        return []
    classes, m = len(reference.classes), len(before)
    recalls = _recalls(reference, held)

    def sees_output(n: int, rate: float) -> bool:
        critical = math.sqrt(-math.log(rate / classes / 2) / 2 * (1 / n + 1 / m))
        return critical + _z(POWER) * math.sqrt(QUARTER * (1 - QUARTER) / n) <= QUARTER

    def sees_class(n: int, rate: float) -> bool:
        each = sorted(needed_for_class(*one, m, rate / classes) for one in recalls)
        return n >= each[len(each) // 2]

    quarter = "a quarter of the images answered unlike any before"
    double = "a class twice as frequent"
    return [
        Test(OUTPUTS, len(now), quarter, lambda: outputs_differ(before, now), sees_output),
        Test(MIX, len(now), double, lambda: mix_differs(before, now, generator), sees_class),
    ]


def _recalls(reference: Reference, held: HeldTo) -> list[tuple[float, float]]:
    """Return of each class its share of the images, and the share of its own that are named right.

    The latter is known of images with a class, the validation images. Those that were met before
    have none: their shares are those of the classes that were named.
    """
    right = reference.probabilities.argmax(axis=1) == reference.targets
    named = held.probabilities.argmax(axis=1) if held.is_met else reference.targets
    return [
        (float((named == number).mean()), float(right[mask].mean()))
        for number, mask in (
            (number, reference.targets == number) for number in range(len(reference.classes))
        )
        if mask.any()
    ]


def _of_corrected(held: HeldTo, window: Window, generator: np.random.Generator) -> list[Test]:
    """Return the tests of corrected images."""
    if held.judged is None or (told := _judged(window)) is None or not told[0].is_covered:
        return []
    (parts, now), before = told, held.judged
    m = len(before.right)
    likely = smoothed(float(before.right.mean()), m)

    def sees_drop(n: int, rate: float) -> bool:
        error = math.sqrt(likely * (1 - likely) * (1 / n + 1 / m))
        return (_z(1 - rate) + _z(POWER)) * error <= DROP

    def sees_surer(n: int, rate: float) -> bool:
        return change_is_seen(parts, before, n, SURER, rate, POWER)

    def calibration_p() -> float:
        each = (before, *([held.lucky] if held.lucky is not None else []))
        return max(calibration_differs(parts, now, one, generator) for one in each)

    count = len(window.corrected)
    drop, off = "an accuracy lower by 5 points", "confidences off by 10 points"
    return [
        Test(ACCURACY, count, drop, lambda: accuracy_fell(parts, now, before), sees_drop),
        Test(CALIBRATION, count, off, calibration_p, sees_surer),
    ]


def _judged(window: Window) -> tuple[Parts, Judged] | None:
    """Return the corrected images, by part; None of too few."""
    if len(window.corrected) < LEAST:
        return None
    corrected = Judged.of(
        np.array([one.probabilities for one, _ in window.corrected]),
        np.array([number for _, number in window.corrected]),
    )
    return Parts(window.confidence, corrected, window.unsure), corrected


def _estimate(
    found: Findings,
    reference: Reference,
    held: HeldTo,
    window: Window,
    generator: np.random.Generator,
) -> None:
    """Add what is estimated, and which images are told of."""
    now, own = window.probabilities, validation(reference)
    # Networks of folds are judged by nothing: they have seen all validation images.
    is_judged = own is not None or found.is_improved
    if is_judged and (told := _judged(window)) is not None:
        parts, corrected = told
        if parts.is_covered:
            found.accuracy = accuracy(parts, corrected)
        if parts.is_covered and held.judged is not None:
            found.calibration = calibration(parts, corrected, held.judged)
        found.is_covered = parts.is_covered
    if held.judged is not None and len(now) >= LEAST:
        found.accuracy_before = float(held.judged.right.mean())
    if own is not None and len(now) >= LEAST:
        found.validation_accuracy = float(own.right.mean())
        if found.accuracy is None:
            found.suggested = suggested(held.judged or own, window.confidence)
        found.shares = class_shares(
            *(reference.classes, reference.targets, reference.probabilities, now, generator),
            earlier=held.probabilities if held.is_met else None,
        )
    if found.check(FEATURES) is not None:
        _point_out(found, held, window, reference.image[2])


def _point_out(found: Findings, held: HeldTo, window: Window, channels: int) -> None:
    """Add in what the images differ, and which of them most."""
    rows = np.argsort(-unlike(held.features, window.features))
    found.unlike = [window.sample[row].name for row in rows[:UNLIKE]]
    then, new = (shown(some, channels) for some in (held.features, window.features))
    for title, values in then.items():
        spread = max(float(values.std()), LEAST_DEVIATION)
        found.moved[title] = float(new[title].mean() - values.mean()) / spread


def _sees(test: Test, rate: float, images: int) -> bool:
    return test.sees(images, rate)


def _z(share: float) -> float:
    return NormalDist().inv_cdf(share)


def _least(sees: Callable[[int], bool]) -> int | None:
    """Return the least number of images with which a change is seen; None if none is enough."""
    if not sees(LARGEST):
        return None
    low, high = 0, LARGEST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if sees(middle) else (middle, high)
    return high
