"""Evaluations that fail after the last trial: told, and the search comes to its end with all
others.
"""

import pytest

from tests.faults.conftest import OpenSearch
from tests.faults.harness import GRID, Done, Search
from tests.faults.oracle import assert_contract, assert_same_best

pytestmark = [pytest.mark.ray, pytest.mark.slow(120)]

HANG_S = 90
"""A fresh worker, whose start is a process and its imports, must be ready within it too, however
busy the machine is.
"""


@pytest.mark.long
def test_what_fails_in_an_evaluation_or_once_in_a_save_costs_itself_alone(
    open_search: OpenSearch, undisturbed: tuple[Search, Done]
) -> None:
    """A worker that dies once is replaced, and its trial tried again; a trial of which every worker
    dies is given up, and so is an evaluation that raises or hangs, the latter with its worker. When
    a worker dies on the test part, another one tests. F14: no space when a checkpoint is saved, and
    space again a moment later.
    """
    search = open_search()
    faults = [
        {"do": "lose", "trial": "t0001", "once": True},
        {"do": "lose", "trial": "t0002"},
        {"do": "refuse", "trial": "t0003", "message": "no luck"},
    ]
    faults += [{"do": "hang", "trial": "t0004"}, {"do": "lose_tested", "once": True}]
    faults += [
        {"do": "full", "trial": trial, "epoch": epoch, "once": True}
        for trial, epoch in (("t0002", 2), ("t0005", 3))
    ]
    search.plan(*faults)
    done = search.run(*GRID, "--hang-timeout", HANG_S).finish()
    assert done.code == 0, done.err
    assert sorted(event["trial"] for event in search.events("evaluated")) == [
        "t0001",
        *(f"t000{number}" for number in range(5, 10)),
    ]
    (failed,) = search.events("unevaluated")
    assert failed["reasons"] == {
        "its process or its node was lost": ["t0002"],
        "RuntimeError: no luck": ["t0003"],
        f"its evaluation did not end within {HANG_S} s": ["t0004"],
    }
    assert sum("not evaluated:" in line for line in done.err.splitlines()) == 1
    assert len(list(search.faults.glob("struck-full-*"))) == 2
    assert list(search.faults.glob("struck-lose_tested-*"))
    assert len(search.events("opened")) == len(search.events("tested")) == 1
    assert_contract(search, kills=2, undisturbed=undisturbed[0])
    assert_same_best(done, undisturbed[1])
