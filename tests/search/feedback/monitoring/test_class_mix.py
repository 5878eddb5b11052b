"""The share of each class, from what a model says."""

import math

import numpy as np

from search.feedback.monitoring.class_mix import class_shares, needed
from tests.search.feedback.monitoring.made_up import answers

NAMES = ("a", "b", "c")


def test_shares_that_changed_are_found_though_the_model_is_often_wrong() -> None:
    generator = np.random.default_rng(0)
    targets, before = answers(1500, generator)
    mix = (0.57, 1 / 3, 0.29 / 3)
    _, now = answers(1500, generator, mix)
    assert np.mean(now.argmax(axis=1) == 0) < 0.54  # it is named less often than it is met
    found = class_shares(NAMES, targets, before, now, generator)
    assert all(one.low < share < one.high for one, share in zip(found, mix, strict=True))
    assert [one.changed for one in found] == [True, False, True]


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    held = changed = 0
    for _ in range(30):
        targets, before = answers(300, generator)
        _, now = answers(200, generator)
        found = class_shares(NAMES, targets, before, now, generator)
        held += sum(one.low <= 1 / 3 <= one.high for one in found)
        changed += any(one.changed for one in found)
    assert held >= 0.9 * 30 * len(NAMES)
    assert changed <= 5


def test_beside_earlier_images_without_labels_the_shares_of_both_are_estimated() -> None:
    generator = np.random.default_rng(0)
    targets, validation = answers(1500, generator)
    mix, other = (0.2, 0.3, 0.5), (0.5, 0.3, 0.2)
    _, before = answers(900, generator, mix)
    same, changed = (
        class_shares(NAMES, targets, validation, now, generator, earlier=before)
        for now in (answers(900, generator, mix)[1], answers(900, generator, other)[1])
    )
    assert not any(one.changed for one in same)
    assert [one.changed for one in changed] == [True, False, True]
    assert all(abs(one.before - share) < 0.06 for one, share in zip(same, mix, strict=True))
    assert all(one.low < share < one.high for one, share in zip(changed, other, strict=True))


def test_a_class_without_validation_images_is_no_trouble() -> None:
    generator = np.random.default_rng(0)
    _, before = answers(100, generator)
    found = class_shares(NAMES, np.zeros(100, dtype=np.int64), before, before, generator)
    assert math.isclose(sum(one.now for one in found), 1)


def test_rarer_classes_and_worse_models_need_more_images() -> None:
    assert needed(0.1, 0.9, 2000, 0.01) < needed(0.05, 0.9, 2000, 0.01)
    assert needed(0.1, 0.9, 2000, 0.01) < needed(0.1, 0.5, 2000, 0.01)
    assert needed(0.01, 0.5, 100, 0.01) == math.inf
