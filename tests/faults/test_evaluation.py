"""Evaluations that fail after the last trial: told, and the search comes to its end with all others."""

import pytest

from tests.faults.conftest import OpenSearch
from tests.faults.harness import GRID, Done, Search
from tests.faults.oracle import assert_contract, assert_same_best

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_an_evaluation_that_kills_its_worker_or_raises_costs_itself_alone(open_search: OpenSearch, undisturbed: tuple[Search, Done]) -> None:
    """A worker that dies once is replaced, and its trial tried again; a trial of which every worker dies is given up."""
    search = open_search()
    faults = [{"do": "lose", "trial": "t0001", "once": True}, {"do": "lose", "trial": "t0002"}, {"do": "refuse", "trial": "t0003", "message": "no luck"}]
    search.plan(*faults)
    done = search.run(*GRID).finish()
    assert done.code == 0, done.err
    assert sorted(event["trial"] for event in search.events("evaluated")) == ["t0001", *(f"t000{number}" for number in range(4, 10))]
    (failed,) = search.events("unevaluated")
    assert failed["reasons"] == {"its process or its node was lost": ["t0002"], "RuntimeError: no luck": ["t0003"]}
    assert sum("not evaluated:" in line for line in done.err.splitlines()) == 1
    assert_contract(search, undisturbed=undisturbed[0])
    assert_same_best(done, undisturbed[1])


def test_an_evaluation_that_hangs_is_given_up_with_its_worker(open_search: OpenSearch, undisturbed: tuple[Search, Done]) -> None:
    search = open_search()
    search.plan({"do": "hang", "trial": "t0002"})
    done = search.run(*GRID, "--hang-timeout", "15").finish()
    assert done.code == 0, done.err
    (failed,) = search.events("unevaluated")
    assert failed["reasons"] == {"its evaluation did not end within 15 s": ["t0002"]}
    assert len(search.events("evaluated")) == 8
    assert_contract(search, undisturbed=undisturbed[0])
    assert_same_best(done, undisturbed[1])
