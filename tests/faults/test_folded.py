"""A grid over several lengths trains each configuration once, also when it is killed on the way."""

import pytest

from tests.faults.conftest import OpenSearch
from tests.faults.harness import INLINE
from tests.faults.oracle import assert_contract, story, taken_over

pytestmark = [pytest.mark.ray, pytest.mark.slow(90), pytest.mark.long]

SPACE = """
from search.space import Choice, SearchSpace
space = SearchSpace({"optimizer.lr": Choice(0.001, 0.01), "epochs": Choice(1, 3, 5)}, \
base={"model.name": "deep_cnn", "model.layers": 5})
"""
SLOTS = 2


def test_a_folded_grid_that_is_killed_comes_to_the_end_of_one_that_was_not(
    open_search: OpenSearch,
) -> None:
    """Ten epochs are trained for eighteen; which configuration's turn it is, is the weather's. What
    a kill costs is an epoch of each that ran.
    """
    undisturbed, search = open_search(name="undisturbed"), open_search(name="killed")
    for one in (undisturbed, search):
        (one.folder / "lengths.py").write_text(SPACE)
    words = (
        "--space",
        "lengths.py",
        "--algorithm",
        "grid",
        "--scheduler",
        "fifo",
    )
    expected = undisturbed.run(*words, *INLINE).finish()
    assert expected.code == 0, expected.err
    assert (expected.summary["epochs_trained"], expected.summary["epochs_taken_over"]) == (10, 8)
    assert assert_contract(undisturbed).trained == len(undisturbed.truth()) == 10
    search.plan({"do": "sleep", "seconds": 0.3})
    search.run(*words, "--concurrency", SLOTS).wait_for_epochs(4).kill9()
    search.plan()
    done = search.resume().finish()
    assert done.code == 0, done.err
    found = assert_contract(search, kills=SLOTS)
    assert found.trained == 10
    assert len(taken_over(search)) == 8
    assert by_params(story(search)) == by_params(story(undisturbed))


def by_params(told: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    """Outcome and curve of each trial by its params: the order in which they are proposed is the
    seed's, and the same; who trains is not.
    """
    return {str(params): rest for params, *rest in told.values()}  # type: ignore[misc]
