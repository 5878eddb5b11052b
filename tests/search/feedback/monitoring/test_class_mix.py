"""How often each class is named, and whether that has changed."""

import numpy as np
import pytest

from search.feedback.monitoring.class_mix import ClassMixDetector, percent
from tests.search.feedback.monitoring.made_up import answers

NAMES = ("a", "b", "c")


def named(*counts: int) -> np.ndarray:
    return np.eye(len(counts))[np.repeat(np.arange(len(counts)), counts)]


def test_the_classes_whose_shares_changed_are_marked() -> None:
    generator = np.random.default_rng(0)
    (_, before), (_, now) = answers(1500, generator), answers(1500, generator, (0.57, 0.33, 0.1))
    detector = ClassMixDetector(before, now, NAMES)
    assert detector.p_value() < 1e-6
    assert [one.changed for one in detector.shares(0.05)] == [True, False, True]


def test_a_class_is_marked_exactly_if_the_mix_has_changed() -> None:
    generator = np.random.default_rng(0)
    verdicts = []
    for count in (40, 80, 160) * 20:
        before, now = answers(300, generator)[1], answers(count, generator, (0.45, 0.3, 0.25))[1]
        detector = ClassMixDetector(before, now, NAMES)
        is_marked = any(one.changed for one in detector.shares(0.05))
        verdicts.append((detector.p_value() <= 0.05, is_marked))
    assert {is_changed for is_changed, _ in verdicts} == {False, True}
    assert all(is_changed == is_marked for is_changed, is_marked in verdicts)


def test_of_many_classes_and_few_images_none_is_marked() -> None:
    """Counts of 0 to 3 have no normal interval: that had marked one in every other window."""
    generator = np.random.default_rng(0)
    names = tuple(map(str, range(30)))
    marked = 0
    for _ in range(100):
        before, now = (np.eye(30)[generator.integers(30, size=count)] for count in (200, 40))
        marked += any(one.changed for one in ClassMixDetector(before, now, names).shares(0.05))
    assert marked <= 5


def test_the_interval_of_a_class_that_is_never_named_reaches_above_0() -> None:
    shares = ClassMixDetector(named(50, 50), named(20, 0), NAMES[:2]).shares(0.05)
    # 1 - (0.04 / 4) ** (1 / 20): both classes' intervals hold together, with the reserve.
    assert (shares[1].now, shares[1].low) == (0, 0)
    assert shares[1].high == pytest.approx(0.2057, abs=1e-3)


def test_a_rarer_class_takes_more_images() -> None:
    needed = [
        ClassMixDetector(named(*counts), named(0, 0), NAMES[:2]).images_needed(0.05)
        for counts in ((500, 500), (100, 900), (40, 960))
    ]
    assert None not in needed
    assert needed == sorted(needed)


def test_the_stated_change_names_a_class_and_its_shares() -> None:
    assert ClassMixDetector(named(30, 970), named(1, 0), ("dog", "cat")).size == (
        "'dog' predicted for 6 % instead of 3 %"
    )
    assert percent(0.0042) == "0.4 %"
