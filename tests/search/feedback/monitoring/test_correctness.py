"""Accuracy and calibration on images that people have corrected, the uncertain ones first."""

import numpy as np
import pytest

from search.feedback.monitoring import correctness
from search.feedback.monitoring.correctness import (
    Judged,
    Parts,
    accuracy,
    accuracy_fell,
    calibration,
    calibration_differs,
    change_is_seen,
    suggested,
)
from tests.search.feedback.monitoring.made_up import answers


@pytest.fixture(autouse=True)
def few_shuffles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correctness, "SHUFFLES", 99)


def judged(count: int, generator: np.random.Generator) -> Judged:
    targets, chances = answers(count, generator)
    return Judged.of(chances, targets)


def some(of: Judged, rows: np.ndarray) -> Judged:
    return Judged(of.confidence[rows], of.right[rows])


def uncertain_first(of: Judged, generator: np.random.Generator) -> Judged:
    chance = np.where(of.confidence < 0.7, 0.5, 0.1)
    return some(of, np.flatnonzero(generator.random(len(of.right)) < chance))


def test_accuracy_is_that_of_all_though_uncertain_ones_are_corrected_first() -> None:
    generator = np.random.default_rng(0)
    held, plain, weighted = 0, [], []
    for _ in range(60):
        everything = judged(2000, generator)
        corrected = uncertain_first(everything, generator)
        found = accuracy(Parts(everything.confidence, corrected), corrected)
        truth = everything.right.mean()
        held += found.low <= truth <= found.high
        plain.append(corrected.right.mean() - truth)
        weighted.append(found.value - truth)
    assert np.mean(plain) < -0.05
    assert abs(np.mean(weighted)) < 0.01
    assert held >= 53


def test_a_part_is_not_divided_between_images_of_which_all_and_of_which_few_are_kept() -> None:
    """0.7 lies within a part: a quarter of the images are below, a fifth make a part."""
    generator = np.random.default_rng(0)
    off = []
    for _ in range(60):
        everything = judged(2000, generator)
        unsure = everything.confidence < 0.7
        told = generator.random(2000) < np.where(unsure, 0.8, 0.05)
        corrected = some(everything, np.flatnonzero(told))
        parts = Parts(everything.confidence, corrected, everything.confidence[unsure].max())
        off.append(accuracy(parts, corrected).value - everything.right.mean())
    assert abs(np.mean(off)) < 0.006


def test_a_fall_is_seen_and_no_fall_is_not() -> None:
    generator = np.random.default_rng(0)
    before, everything = judged(1000, generator), judged(2000, generator)
    corrected = uncertain_first(everything, generator)
    parts = Parts(everything.confidence, corrected)
    assert accuracy_fell(parts, corrected, before) > 0.05
    worse = Judged(
        corrected.confidence, corrected.right & (generator.random(len(corrected.right)) < 0.8)
    )
    assert accuracy_fell(parts, worse, before) < 0.001


def test_a_few_images_that_are_all_right_promise_no_perfection() -> None:
    """A model that is right on 97 of 100 is right on all of 20 in half of the cases."""
    before = Judged(np.full(20, 0.9), np.ones(20, dtype=np.bool_))
    now = Judged(np.full(200, 0.9), np.arange(200) >= 8)
    parts = Parts(np.full(1000, 0.9), now)
    assert accuracy_fell(parts, now, before) > 0.1


def test_where_sure_images_are_not_corrected_nothing_is_said() -> None:
    everything = judged(1000, np.random.default_rng(0))
    unsure = some(everything, np.flatnonzero(everything.confidence < 0.6))
    assert not Parts(everything.confidence, unsure).is_covered
    assert Parts(everything.confidence, everything).is_covered


def test_confidences_that_are_all_one_are_one_part() -> None:
    right = np.array([True] * 30 + [False] * 10)
    sure = Judged(np.ones(40), right)
    parts = Parts(np.ones(500), sure)
    assert parts.is_covered
    assert accuracy(parts, sure).value == pytest.approx(0.75)
    assert suggested(sure, np.ones(500)).value == pytest.approx(0.75)


def test_calibration_raises_false_alarms_at_its_rate_and_sees_overconfidence() -> None:
    generator = np.random.default_rng(0)
    p = []
    for _ in range(60):
        before, everything = judged(400, generator), judged(500, generator)
        corrected = uncertain_first(everything, generator)
        p.append(
            calibration_differs(
                Parts(everything.confidence, corrected), corrected, before, generator
            )
        )
    assert 0 < np.mean(np.array(p) <= 0.05) <= 0.14
    surer = Judged(corrected.confidence**0.3, corrected.right)
    parts = Parts(everything.confidence**0.3, surer)
    assert calibration_differs(parts, surer, before, generator) <= 0.02
    found = calibration(parts, surer, before)
    assert found.low > 0
    assert found.low < found.surer < found.high


def test_a_change_of_the_calibration_takes_more_images_than_a_few_that_are_all_right() -> None:
    generator = np.random.default_rng(0)
    before, now = judged(400, generator), judged(500, generator)
    parts = Parts(now.confidence, now)
    seen = [change_is_seen(parts, before, images, 0.1, 0.05, 0.8) for images in (1, 20, 500)]
    assert seen == [False, False, True]
    # They were sure of these alone, so of the other parts nothing is known.
    few = Judged(np.full(36, 0.999), np.ones(36, dtype=np.bool_))
    assert not change_is_seen(parts, few, 10**6, 0.1, 0.05, 0.8)
    assert calibration(parts, now, few).before == pytest.approx(0.001)


def test_confidences_suggest_an_accuracy() -> None:
    generator = np.random.default_rng(0)
    before, now = judged(2000, generator), judged(2000, generator)
    rows = np.argsort(now.confidence)[:1500]  # the sure ones stay away
    told = suggested(before, now.confidence[rows])
    assert abs(told.value - now.right[rows].mean()) < 0.05
    assert told.high < before.right.mean()
