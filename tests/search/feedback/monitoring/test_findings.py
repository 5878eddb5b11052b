"""All tests together, and the reasons why one could not be made."""

from dataclasses import replace

import numpy as np
import pytest

from search.feedback.monitoring.findings import (
    ACCURACY,
    MIX,
    OUTPUTS,
    RATE,
    Findings,
    build_detectors,
    find_changes,
    rate_per_test,
)
from search.feedback.monitoring.window import Window
from search.feedback.monitoring.words import facts, verdict
from search.feedback.records import DECIMALS, RecordedAnswer
from tests.search.feedback.monitoring.made_up import CLASSES, answers, made_reference


def window(count: int, corrected: int = 0, seed: int = 1, right: float = 1.0) -> Window:
    """Return what a recorder writes of answers, of which the first are corrected."""
    generator = np.random.default_rng(seed)
    targets, chances = answers(count, generator)
    targets = np.where(generator.random(count) < right, targets, (targets + 1) % len(CLASSES))
    seen = [
        RecordedAnswer(
            str(row), row, str(row), "1", tuple(round(float(one), DECIMALS) for one in said)
        )
        for row, said in enumerate(chances)
    ]
    told = list(zip(seen, targets.tolist(), strict=True))[:corrected]
    return Window("1", seen, count, {}, told)


def told(found: Findings) -> dict[str, str]:
    return dict(facts(found))


def test_all_tests_share_the_rate() -> None:
    found = find_changes("m", made_reference(), window(100, 100), rate=0.06)
    assert [check.name for check in found.checks] == [OUTPUTS, MIX, ACCURACY]
    assert [check.rate for check in found.checks] == pytest.approx([0.016] * 3)
    found = find_changes("m", made_reference(), window(100), rate=0.06)
    assert [check.rate for check in found.checks] == pytest.approx([0.024] * 2)


def test_false_alarms_of_all_tests_together_are_rare() -> None:
    def has_alarm(seed: int) -> bool:
        detectors = build_detectors(made_reference(200, seed), window(60, 60, seed + 500))
        return any(
            detector.p_value() <= rate_per_test(RATE, len(detectors)) for detector in detectors
        )

    # Of 60 looks at 5 % more than 8 raise an alarm once in two hundred times.
    assert sum(map(has_alarm, range(60))) <= 8


def test_a_model_that_became_worse_is_seen() -> None:
    found = find_changes("m", made_reference(), window(200, 200, right=0.7))
    assert found.changed == [ACCURACY]
    assert found.accuracy is not None
    assert found.accuracy_before is not None
    assert found.accuracy.high < found.accuracy_before
    assert verdict(found) == "changed: the accuracy (false-alarm rate 0.05)"
    assert f"{found.accuracy_before:.3f} on the validation images" in told(found)["accuracy"]


def test_few_validation_images_are_the_reason_that_is_given() -> None:
    """All 40 that were met are corrected: it is the search that has too few images."""
    found = find_changes("m", made_reference(12), window(40, 40))
    assert found.checks == []
    assert verdict(found) == "too few images for a test: 12 validation images, but 20 are required"
    assert told(found)["outputs"] == "not tested: 12 validation images, but 20 are required"
    assert told(found)["accuracy"].endswith(
        "on 40 corrected images; not compared: 12 validation images, but 20 are required"
    )
    assert found.to_json()["untested"][ACCURACY] == "12 validation images, but 20 are required"


def test_few_images_that_were_met_are_the_reason_that_is_given() -> None:
    found = find_changes("m", made_reference(), window(1))
    assert told(found)["class mix"] == "not tested: 1 image answered, but 20 are required"


def test_few_corrected_images_are_the_reason_that_is_given() -> None:
    found = find_changes("m", made_reference(), replace(window(40, 7), unsampled=33))
    assert found.accuracy is None
    assert told(found)["accuracy"] == (
        "not known: 7 corrected images of a random sample (33 others), but 20 are "
        "required. Correct "
        "more: python -m search.label"
    )
    assert told(found)["left out"].startswith("33 corrected images outside the random sample")


def test_networks_of_folds_are_the_reason_only_where_there_are_folds() -> None:
    plain = made_reference()
    folds = replace(plain, probabilities=plain.probabilities[:0])
    found = find_changes("m", folds, window(40, 40))
    assert set(found.untested.values()) == {
        "the networks of the folds were trained on all validation images"
    }
    assert found.accuracy is not None


def test_what_is_short_is_named_with_how_many_it_takes() -> None:
    few_new = find_changes("m", made_reference(2000), window(30, 30))
    check = few_new.check(ACCURACY)
    assert check is not None
    assert check.needed is not None
    assert f"requires {check.needed:,} corrected images" in told(few_new)["accuracy"]
    few_before = find_changes("m", made_reference(25), window(2000, 2000))
    check = few_before.check(ACCURACY)
    assert check is not None
    assert check.needed is None
    assert check.needed_reference is not None
    assert (
        f"requires at least {check.needed_reference:,} validation images"
        in told(few_before)["accuracy"]
    )
    assert "too few images for a test of" in verdict(few_before)
