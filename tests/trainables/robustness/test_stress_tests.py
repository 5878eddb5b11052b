import numpy as np
import pytest

from trainables.robustness.stress_tests import (
    ATTACKED,
    ATTACKS,
    CLEAN,
    CORRUPTED,
    PUBLISHED,
    is_weaker,
    summarise_tests,
)
from trainables.tasks import TASKS

ACCURACY = TASKS["classification"].primary
IMAGES = 40


def right(count):
    return [1] * count + [0] * (IMAGES - count)


def corrupted_results():
    """An image is right in all of its copies or in none, except under fog at severity 5."""
    results = {name: {"rows": [right(20)] * 5} for name in PUBLISHED}
    results["fog"] = {"rows": [right(20)] * 4 + [right(0)]}
    return {CLEAN: {"rows": [right(30)]}, **results}


def attacked_results(**counts):
    return {
        CLEAN: {"rows": [right(30)]},
        **{name: {"rows": [right(counts[budget.method])]} for name, budget in ATTACKS.items()},
    }


def test_the_mean_accuracy_is_that_of_the_copies_with_an_interval_of_the_images():
    summary = summarise_tests(CORRUPTED, corrupted_results(), ACCURACY)
    assert (summary["images"], summary["clean"]) == (IMAGES, 0.75)
    assert summary["table"]["snow"] == [0.5] * 5
    assert summary["table"]["fog"] == [0.5, 0.5, 0.5, 0.5, 0.0]
    assert summary["accuracy"] == pytest.approx(0.5 * 74 / 75)
    shares = np.array(right(20)) * 74 / 75
    assert summary["error"] == pytest.approx(shares.std(ddof=1) / np.sqrt(IMAGES))
    # As wide as for 40 images, not as for 40 x 75.
    assert summary["low"] < summary["accuracy"] - 0.1
    assert summary["high"] > summary["accuracy"] + 0.1


def test_few_images_have_no_interval():
    results = {
        name: {"rows": [row[:5] for row in result["rows"]]}
        for name, result in corrupted_results().items()
    }
    summary = summarise_tests(CORRUPTED, results, ACCURACY)
    assert (summary["low"], summary["high"]) == (None, None)


def test_each_attack_has_its_budget_and_accuracy():
    summary = summarise_tests(ATTACKED, attacked_results(fgsm=20, pgd=10, square=12), ACCURACY)
    assert [row["accuracy"] for row in summary["table"]] == [0.5, 0.25, 0.3] * 2
    assert summary["table"][1] == {
        "method": "pgd",
        "epsilon": 2 / 255,
        "steps": 20,
        "restarts": 2,
        "accuracy": 0.25,
    }
    assert summary["masked"] == []


@pytest.mark.parametrize(("square", "limits"), [(19, []), (14, [2 / 255, 8 / 255])])
def test_hidden_gradients_are_reported_if_the_black_box_is_clearly_stronger(square, limits):
    results = attacked_results(fgsm=20, pgd=20, square=square)
    assert summarise_tests(ATTACKED, results, ACCURACY)["masked"] == limits


def test_the_comparison_of_two_attacks_is_mcnemars():
    first, second = np.array([1] * 5 + [0] * 3, bool), np.array([0] * 8, bool)
    assert is_weaker(first, second)  # 5 of 5: 1/32
    assert not is_weaker(first[1:], second[1:])  # 4 of 4: 1/16
    assert not is_weaker(second, first)
    assert not is_weaker(first, first)


def test_a_model_that_cannot_be_attacked_has_the_reason_instead():
    results = {CLEAN: {"rows": [right(30)]}, "fgsm-2": {"reason": "svm has no network"}}
    assert summarise_tests(ATTACKED, results, ACCURACY) == {"reason": "svm has no network"}
