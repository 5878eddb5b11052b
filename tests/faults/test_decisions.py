"""A resumed search decides as the undisturbed one would have: it is the journal that is replayed,
not the weather.
"""

import random

import pytest

from tests.faults.conftest import OpenSearch
from tests.faults.harness import INLINE, Done, Search
from tests.faults.oracle import assert_contract, assert_same_best, assert_stops_explained, stops

pytestmark = [pytest.mark.ray, pytest.mark.slow]

BAYES = (
    "--space",
    "table3",
    "--concurrency",
    1,
    "--max-epochs",
    3,
    "--trials",
    8,
    "--set",
    "data.train_limit=300",
)
SEEDS = [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 11))]
"""Of the moments at which a search is killed."""


@pytest.fixture(scope="module")
def decided(open_search: OpenSearch) -> tuple[Search, Done]:
    """All of Table III, Bayesian suggestions and early stops, one trial at a time, undisturbed."""
    search = open_search()
    return search, search.run(*BAYES, *INLINE).finish()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_resumed_search_suggests_and_stops_as_the_undisturbed_one(
    seed: int, open_search: OpenSearch, decided: tuple[Search, Done]
) -> None:
    """F1, F18: killed twice at random epochs: the same params, stops and best. Optuna's file is a
    projection and may be in shreds.
    """
    undisturbed, expected = decided
    assert expected.code == 0, expected.err
    assert "stopped" in expected.summary["trials"]
    assert (
        len({event["params"]["model.filter_size"] for event in undisturbed.events("suggested")}) > 1
    )
    chance = random.Random(seed)
    total = expected.summary["epochs_trained"]
    search = open_search()
    search.plan({"do": "sleep", "seconds": 0.2})
    search.run(*BAYES).wait_for_epochs(chance.randint(2, total // 2)).kill9()
    (search.home / "optuna.log").write_text('{"op_code": ')
    search.resume().wait_for_epochs(chance.randint(total // 2 + 2, total - 1)).kill9()
    done = search.resume().finish()
    assert done.code == 0, done.err
    assert_contract(search, kills=2, undisturbed=undisturbed)
    assert_same_best(done, expected)
    assert stops(search) == stops(undisturbed)


def test_with_several_at_once_each_stop_is_explained_by_the_rungs_of_its_moment(
    open_search: OpenSearch,
) -> None:
    """F18: killed and resumed. The order of arrival may vary; what follows from it may not."""
    search = open_search()
    search.run(
        *BAYES, "--set", "model.filter_size=3", "--concurrency", 2, "--trials", 12
    ).wait_for_epochs(6).kill9()
    done = search.resume().finish()
    assert done.code == 0, done.err
    assert_contract(search, kills=2)
    assert_stops_explained(search)


@pytest.mark.soak
def test_a_thousand_trials_of_a_hundred_epochs_cost_little(open_search: OpenSearch) -> None:
    """F29: played trainings, so that what is left is the driver: more than 100 epochs a second on
    one core.
    """
    search = open_search()
    search.plan(played={"epoch_s": 0.0})
    words = [
        "--space",
        "table3",
        "--trials",
        1000,
        "--set",
        "epochs=100",
        "--algorithm",
        "random",
        "--scheduler",
        "fifo",
    ]
    done = search.run(*words, "--set", "model.width=8").finish(timeout=580)
    assert done.code == 0, done.err
