"""Tests of two models on the same images, against published values and by simulation."""

import math

import numpy as np
import pytest

from search.feedback.learning.paired import (
    POWER,
    PairedComparison,
    detectable_difference,
    images_needed,
    max_disagreement,
)

AGRESTI = PairedComparison(images=1600, gained=150, lost=86)
"""The approval of a prime minister, twice (Agresti 2002, table 10.1)."""


def test_mcnemars_exact_test_is_the_published_one() -> None:
    # R's exact2x2::mcnemar.exact gives 3.716e-05, two-sided.
    assert AGRESTI.p_better == pytest.approx(3.716e-05 / 2, rel=1e-3)
    assert PairedComparison(1600, 86, 150).p_better > 0.9999


def test_without_a_difference_nothing_is_better() -> None:
    assert PairedComparison(100, 0, 0).p_better == 1
    assert PairedComparison(100, 5, 5).p_better > 0.5


def test_the_interval_is_tangos() -> None:
    # R's PropCIs::scoreci.mp(150, 86, 1600, 0.95).
    assert AGRESTI.interval() == pytest.approx((0.0213, 0.0590), abs=2e-4)
    low, high = PairedComparison(44, 0, 1).interval()  # Tango (1998), table 2
    assert (low, high) == pytest.approx((-0.118, 0.059), abs=2e-3)
    assert PairedComparison(44, 1, 0).interval() == pytest.approx((-high, -low))


def test_the_interval_holds_where_one_model_wins_everything() -> None:
    low, high = PairedComparison(50, 50, 0).interval()
    assert 0.8 < low < 0.9
    assert high == 1
    low, high = PairedComparison(100, 0, 0).interval()
    assert low == pytest.approx(-high)


def test_the_interval_and_the_test_of_not_worse_agree() -> None:
    for gained, lost in ((3, 9), (20, 25), (40, 30), (0, 0), (0, 12)):
        found = PairedComparison(1000, gained, lost)
        low = found.interval(0.9)[0]
        assert found.p_worse_by(-low) == pytest.approx(0.05, abs=1e-3)


def test_one_that_is_worse_by_the_margin_passes_as_often_as_allowed() -> None:
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(3000, [0.045, 0.055, 0.9], size=2000)
    passed = np.mean(
        [PairedComparison(3000, one, two).p_worse_by(0.01) <= 0.05 for one, two, _ in drawn]
    )
    assert 0.03 < passed < 0.07


def test_the_images_that_are_needed_find_the_difference_as_often_as_said() -> None:
    count, generator = images_needed(0.05, 0.25), np.random.default_rng(0)
    drawn = generator.multinomial(count, [0.15, 0.10, 0.75], size=1000)
    found = np.mean([PairedComparison(count, one, two).p_better <= 0.05 for one, two, _ in drawn])
    assert POWER - 0.06 < found < POWER + 0.05


def test_the_difference_found_is_the_least_that_so_many_images_tell() -> None:
    found = detectable_difference(200, 0.25)
    assert images_needed(found, 0.25) <= 200 < images_needed(found - 0.001, 0.25)
    assert math.isinf(detectable_difference(3, 0.25))


def test_equals_that_differ_as_much_as_allowed_pass_as_not_worse_as_often_as_said() -> None:
    differing, generator = max_disagreement(4000, 0.01), np.random.default_rng(0)
    drawn = generator.multinomial(4000, [differing / 2, differing / 2, 1 - differing], size=1000)
    passed = np.mean(
        [PairedComparison(4000, one, two).p_worse_by(0.01) <= 0.05 for one, two, _ in drawn]
    )
    assert POWER - 0.06 < passed < POWER + 0.05


@pytest.mark.parametrize("least", [0.0, 1.645])
def test_what_is_luck_in_being_better_is_estimated(least: float) -> None:
    """Of those that were taken by a difference most of what is luck in it is, on average."""
    generator = np.random.default_rng(0)
    for true in (0.5, 0.6, 0.9):
        raw, less = [], []
        while len(raw) < 400:
            gained = int(generator.binomial(60, true))
            found = PairedComparison(240, gained, 60 - gained)
            if (2 * gained - 60) / math.sqrt(60) > least:
                raw.append(found.difference - (2 * true - 1) * 60 / 240)
                less.append(raw[-1] - found.luck(least))
        assert abs(np.mean(less)) < 0.02
        assert abs(np.mean(less)) < 0.6 * np.mean(raw) or np.mean(raw) < 0.02


def test_there_is_no_luck_where_nothing_was_gained() -> None:
    assert PairedComparison(0, 0, 0).luck(0) == PairedComparison(50, 5, 5).luck(0) == 0
    assert PairedComparison(100, 60, 2).luck(1.645) == pytest.approx(0, abs=1e-3)
    # McNemar's test, which is exact, passed at less than the standard errors asked for.
    assert PairedComparison(20, 6, 0).luck(3) == pytest.approx(
        PairedComparison(20, 6, 0).difference
    )
