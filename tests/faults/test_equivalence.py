"""A search of Table III, killed at a random epoch and resumed, comes to the very end of one that was left alone."""

import random

import pytest

from tests.faults.conftest import OpenSearch
from tests.faults.oracle import assert_contract, assert_same_best, stops

pytestmark = [pytest.mark.ray, pytest.mark.slow]

WORDS = ("--space", "table3", "--algorithm", "bayes", "--scheduler", "asha", "--concurrency", 1, "--trials", 12, "--max-epochs", 3)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 10))])
def test_a_killed_search_makes_the_decisions_of_an_undisturbed_one(seed: int, open_search: OpenSearch) -> None:
    """F1, F18: the same params, curves and stops with what they rest on, and the same best. The seed is the search's, and the moment's."""
    undisturbed = open_search(name="undisturbed")
    expected = undisturbed.run(*WORDS, "--seed", seed).finish()
    assert expected.code == 0, expected.err
    assert "stopped" in expected.summary["trials"]
    search = open_search(name="killed")
    moment = random.Random(seed).randint(1, expected.summary["epochs_trained"] - 1)
    search.run(*WORDS, "--seed", seed).wait_for_epochs(moment).kill9()
    done = search.resume().finish()
    assert done.code == 0, done.err
    assert_contract(search, kills=1, undisturbed=undisturbed)
    assert_same_best(done, expected)
    assert stops(search) == stops(undisturbed)
