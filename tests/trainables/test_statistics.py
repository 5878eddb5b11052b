"""Confidence bounds."""

import pytest
from scipy.stats import beta

from trainables.statistics import share_bounds


def test_the_bounds_of_a_share_are_those_of_clopper_and_pearson() -> None:
    for wrong, answers in ((0, 10), (3, 40), (39, 40), (4, 4)):
        low, high = share_bounds(wrong / answers, answers, 0.05)
        assert low == pytest.approx(beta.ppf(0.05, wrong, answers - wrong + 1) if wrong else 0)
        assert high == pytest.approx(
            beta.ppf(0.95, wrong + 1, answers - wrong) if wrong < answers else 1
        )
