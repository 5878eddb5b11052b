"""Everything that is asked about what a model has met, and the answers."""

from dataclasses import asdict, dataclass, field
from typing import Any

from search.feedback.monitoring.accuracy import ACCURACY, Accuracy, AccuracyDetector
from search.feedback.monitoring.class_mix import MIX, ClassMixDetector, ClassShare
from search.feedback.monitoring.detector import Detector
from search.feedback.monitoring.held_to import LEAST, VALIDATION, HeldTo
from search.feedback.monitoring.outputs import OUTPUTS, OutputsDetector
from search.feedback.monitoring.window import Window
from trainables.errors import counted
from trainables.export.reference import Reference

RATE = 0.05
"""The false-alarm rate of all tests together."""
DIVIDED = 0.8
"""The part of it that the tests divide among them. The rest is a reserve: one of the tests is an
approximation, and images in use are never quite independent.
"""


@dataclass(frozen=True)
class Check:
    """The result of a test."""

    name: str
    images: int
    """The new images that it compared."""
    reference_images: int
    """The images with which it compared them."""
    p: float
    """The probability of so large a difference if nothing had changed."""
    rate: float
    """Its share of the false-alarm rate: it says `changed` if `p` is at most that."""
    size: str
    """The change that ought to be detected, in words."""
    needed: int | None
    """The new images with which that is detected four times of five; None if no number is enough
    beside so few reference images.
    """
    needed_reference: int | None = None
    """Where `needed` is None: the reference images that some number of new ones needs; None if the
    most that are kept are too few.
    """

    @property
    def changed(self) -> bool:
        """True if more has changed than noise explains."""
        return self.p <= self.rate

    @property
    def is_enough(self) -> bool:
        """True if there were images enough to detect a change of that size."""
        return self.needed is not None and self.images >= self.needed


@dataclass
class Findings:
    """The results of all tests."""

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
    """The corrected images that are a random sample of all that were met."""
    unsampled: int
    """The other corrected images, from which no accuracy is estimated."""
    held_to: str = VALIDATION
    """The images with which new ones are compared, in words."""
    is_improved: bool = False
    """True of a model that `search.improve` has registered, which knows what was met before."""
    accuracy_held_to: str = VALIDATION
    accuracy_before: float | None = None
    """The images with which the accuracy is compared, and the accuracy on these."""
    met_again: int = 0
    """The images in this time that the version was trained on: its answers on them do not count."""
    learned: int = 0
    """The corrected ones of these."""
    checks: list[Check] = field(default_factory=list)
    untested: dict[str, str] = field(default_factory=dict)
    """Why a test could not be made, by its name."""
    shares: list[ClassShare] = field(default_factory=list)
    accuracy: Accuracy | None = None

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


def find(model: str, reference: Reference, window: Window, rate: float = RATE) -> Findings:
    """Make all tests that can be made of a window.

    Args:
        model: the model's name in texts.
        reference: its own.
        window: what it has met.
        rate: the false-alarm rate of all tests together. Each has a share of it (`share_of`), since
            the tests of one window are not independent.
    """
    held, untested = HeldTo.of(reference), why_untested(reference, window)
    times = [answer.time_ms for answer in window.answers]
    found = Findings(
        model,
        window.version,
        min(times),
        max(times),
        window.answered,
        len(window.answers),
        window.others,
        rate,
        len(window.corrected),
        window.unsampled,
        held_to=held.title,
        is_improved=reference.met is not None,
        accuracy_held_to=held.right_title,
        accuracy_before=float(held.right.mean()) if len(held.right) else None,
        met_again=len(window.trained),
        learned=window.learned,
        untested=untested,
    )
    detectors = detectors_of(reference, window)
    for detector in detectors:
        found.checks.append(check_of(detector, share_of(rate, len(detectors))))
        if isinstance(detector, ClassMixDetector):
            found.shares = detector.shares(share_of(rate, len(detectors)))
    if len(window.corrected) >= LEAST:
        found.accuracy = Accuracy.of(window.right)
    return found


def share_of(rate: float, tests: int) -> float:
    """False-alarm rate of each of so many tests (Bonferroni), less the reserve.

    >>> round(share_of(0.06, 3), 4)
    0.016
    """
    return DIVIDED * rate / tests


def detectors_of(reference: Reference, window: Window) -> list[Detector]:
    """Make the tests for which there are images enough."""
    held, seen = HeldTo.of(reference), window.probabilities
    detectors: list[Detector] = [
        OutputsDetector(held.probabilities, seen),
        ClassMixDetector(held.probabilities, seen, reference.classes),
        AccuracyDetector(held.right, window.right),
    ]
    untested = why_untested(reference, window)
    return [detector for detector in detectors if detector.name not in untested]


def check_of(detector: Detector, rate: float) -> Check:
    """Make a test at this false-alarm rate."""
    needed = detector.needed(rate)
    return Check(
        detector.name,
        detector.images,
        detector.reference_images,
        detector.p_value(),
        rate,
        detector.size,
        needed,
        detector.needed_reference(rate) if needed is None else None,
    )


def why_untested(reference: Reference, window: Window) -> dict[str, str]:
    """Say of each test that cannot be made which images are too few, and how many it needs."""
    held, met, corrected = HeldTo.of(reference), reference.met, len(window.corrected)
    count, fresh = len(reference.probabilities), len(window.fresh)
    if len(reference.targets) > count:
        few_validation = "the networks of folds have together seen all validation images"
    else:
        few_validation = _few(count, counted(count, "validation image"))
    few_known, known = few_validation, len(held.right)
    if met is not None:
        images = counted(known, "image")
        few_known = _few(known, f"{images} of known class held out before it was improved")
    sample = f"{counted(corrected, 'corrected image')} of a random sample"
    others = f" ({window.unsampled:,} others)" if window.unsampled else ""
    fresh_images = counted(fresh, "image") + " met"
    fresh_images += " that it was not trained on" if window.trained else ""
    answers = _few(fresh, fresh_images)
    if not answers and len(held.probabilities) < LEAST:
        answers = few_validation
    why = {OUTPUTS: answers, MIX: answers, ACCURACY: _few(corrected, sample + others) or few_known}
    return {name: reason for name, reason in why.items() if reason}


def _few(count: int, images: str) -> str:
    """Say that images are too few to be tested; empty if they are not."""
    return "" if count >= LEAST else f"{images}, {LEAST} are needed"
