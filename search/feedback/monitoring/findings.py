"""Run all tests of a served model, and collect their results."""

from dataclasses import asdict, dataclass, field
from typing import Any

from search.feedback.monitoring.accuracy import ACCURACY, Accuracy, AccuracyDetector
from search.feedback.monitoring.class_mix import MIX, ClassMixDetector, ClassShare
from search.feedback.monitoring.detector import Detector
from search.feedback.monitoring.groups import GroupAnswers
from search.feedback.monitoring.held_to import MIN_TESTED, VALIDATION, ReferenceSet
from search.feedback.monitoring.outputs import OUTPUTS, OutputsDetector
from search.feedback.monitoring.window import Window
from trainables.errors import counted
from trainables.export.reference import Reference

RATE = 0.05
"""The false-alarm rate of all tests together."""
DIVIDED_SHARE = 0.8
"""Share of the false-alarm rate that is divided among the tests. The rest is a reserve, because one
of the tests is an approximation and real images are never quite independent.
"""


@dataclass(frozen=True)
class Check:
    """The result of a test."""

    name: str
    images: int
    """Number of new images that were compared."""
    reference_images: int
    """Number of the reference's images with which the new images were compared."""
    p: float
    """p-value: probability of a difference at least this large if nothing has changed."""
    rate: float
    """The false-alarm rate of this test: it reports a change if `p` is at most this."""
    size: str
    """The change that the test should detect, in words."""
    needed: int | None
    """Number of new images with which that change is detected with a probability of 80 %. None if
    `MAX_NEW_IMAGES` are too few with these reference images.
    """
    needed_reference: int | None = None
    """If `needed` is None, the number of reference images with which `MAX_NEW_IMAGES` new images
    are enough. None if that is more than a reference can contain.
    """

    @property
    def changed(self) -> bool:
        """True if the difference is significant."""
        return self.p <= self.rate

    @property
    def is_enough(self) -> bool:
        """True if there were enough images to detect a change of `size`."""
        return self.needed is not None and self.images >= self.needed


@dataclass
class Findings:
    """The results of all tests of a window of answers."""

    model: str
    version: str
    first_ms: int
    last_ms: int
    """Unix times of the first and the last tested answer, in milliseconds."""
    answered: int
    images: int
    """Number of all answers in this period, and of distinct images among them, at most
    `MAX_ANSWERS`.
    """
    others: dict[str, int]
    """The number of answers by each other version of the model."""
    rate: float
    corrected: int
    """Number of corrected images that are a random sample of all answered images."""
    unsampled: int
    """Number of corrected images outside this sample. No accuracy is estimated from them."""
    held_to: str = VALIDATION
    """The images with which new images are compared, in words."""
    is_improved: bool = False
    """True for a model from `search.improve`, whose reference contains earlier images."""
    accuracy_held_to: str = VALIDATION
    accuracy_before: float | None = None
    """The images with which the accuracy is compared, in words, and the accuracy on them. The
    accuracy is None if there are no such images.
    """
    met_again: int = 0
    """Number of images in this period on which the version was trained; they are not tested."""
    learned: int = 0
    """Number of corrected images on which the version was trained."""
    checks: list[Check] = field(default_factory=list)
    untested: dict[str, str] = field(default_factory=dict)
    """The reason why a test could not be run, by the name of the test."""
    shares: list[ClassShare] = field(default_factory=list)
    accuracy: Accuracy | None = None
    groups: list[GroupAnswers] = field(default_factory=list)
    """The answers in groups of images, if their attributes are known."""

    @property
    def changed(self) -> list[str]:
        """The names of the tests that found a change."""
        return [check.name for check in self.checks if check.changed]

    def check(self, name: str) -> Check | None:
        """The result of the test with this name; None if it could not be run."""
        return next((check for check in self.checks if check.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """Convert the findings to JSON-compatible values."""
        checks = [
            {**asdict(check), "changed": check.changed, "is_enough": check.is_enough}
            for check in self.checks
        ]
        return {**asdict(self), "changed": self.changed, "checks": checks}


def find_changes(model: str, reference: Reference, window: Window, rate: float = RATE) -> Findings:
    """Run all tests for which a window contains enough images.

    Args:
        model: the model's name, for messages.
        reference: the model's reference.
        window: the model's answers in the tested period.
        rate: the false-alarm rate of all tests together; it is divided among them
            (`rate_per_test`).
    """
    reference_set, untested = ReferenceSet.of(reference), untested_reasons(reference, window)
    times = [answer.time_ms for answer in window.answers]
    findings = Findings(
        model,
        window.version,
        min(times),
        max(times),
        window.answer_count,
        len(window.answers),
        window.other_versions,
        rate,
        len(window.corrected),
        window.unsampled,
        held_to=reference_set.title,
        is_improved=reference.earlier is not None,
        accuracy_held_to=reference_set.right_title,
        accuracy_before=float(reference_set.right.mean()) if len(reference_set.right) else None,
        met_again=len(window.trained),
        learned=window.learned_count,
        untested=untested,
    )
    detectors = build_detectors(reference, window)
    for detector in detectors:
        findings.checks.append(run_check(detector, rate_per_test(rate, len(detectors))))
        if isinstance(detector, ClassMixDetector):
            findings.shares = detector.shares(rate_per_test(rate, len(detectors)))
    if len(window.corrected) >= MIN_TESTED:
        findings.accuracy = Accuracy.of(window.right)
    return findings


def rate_per_test(rate: float, tests: int) -> float:
    """False-alarm rate of each of `tests` tests: `DIVIDED_SHARE` of `rate`, divided equally.

    >>> round(rate_per_test(0.06, 3), 4)
    0.016
    """
    return DIVIDED_SHARE * rate / tests


def build_detectors(reference: Reference, window: Window) -> list[Detector]:
    """Create the tests for which there are enough images."""
    reference_set, new_probabilities = ReferenceSet.of(reference), window.probabilities
    detectors: list[Detector] = [
        OutputsDetector(reference_set.probabilities, new_probabilities),
        ClassMixDetector(reference_set.probabilities, new_probabilities, reference.classes),
        AccuracyDetector(reference_set.right, window.right),
    ]
    untested = untested_reasons(reference, window)
    return [detector for detector in detectors if detector.name not in untested]


def run_check(detector: Detector, rate: float) -> Check:
    """Run a test at this false-alarm rate, and compute how many images it needs."""
    images_needed = detector.images_needed(rate)
    return Check(
        detector.name,
        detector.images,
        detector.reference_images,
        detector.p_value(),
        rate,
        detector.size,
        images_needed,
        detector.reference_images_needed(rate) if images_needed is None else None,
    )


def untested_reasons(reference: Reference, window: Window) -> dict[str, str]:
    """Find the tests that cannot be run because there are too few images.

    Returns:
        For each of these tests, by name, a text with the available images and the minimum number.
    """
    reference_set, earlier, corrected = (
        ReferenceSet.of(reference),
        reference.earlier,
        len(window.corrected),
    )
    count, fresh = len(reference.probabilities), len(window.fresh)
    if len(reference.targets) > count:
        few_validation = "the networks of the folds were trained on all validation images"
    else:
        few_validation = _too_few_text(count, counted(count, "validation image"))
    few_known, known_count = few_validation, len(reference_set.right)
    if earlier is not None:
        images = counted(known_count, "image")
        few_known = _too_few_text(
            known_count, f"{images} of known class, held out before the model was improved"
        )
    sample = f"{counted(corrected, 'corrected image')} of a random sample"
    others_text = f" ({window.unsampled:,} others)" if window.unsampled else ""
    fresh_images = counted(fresh, "image") + " answered"
    fresh_images += " that the model was not trained on" if window.trained else ""
    answers = _too_few_text(fresh, fresh_images)
    if not answers and len(reference_set.probabilities) < MIN_TESTED:
        answers = few_validation
    reasons = {
        OUTPUTS: answers,
        MIX: answers,
        ACCURACY: _too_few_text(corrected, sample + others_text) or few_known,
    }
    return {name: reason for name, reason in reasons.items() if reason}


def _too_few_text(count: int, images: str) -> str:
    """State that there are too few images to run a test; empty if there are enough."""
    return "" if count >= MIN_TESTED else f"{images}, but {MIN_TESTED} are required"
