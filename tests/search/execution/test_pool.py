"""Real workers on a real Ray: what one trial leaves behind, what fused ones come to, and who takes
over workers that stay.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from search.execution.evaluation import NOBODY
from search.journal.result import SearchResult
from tests.bench.commands import cluster, execute
from tests.faults.harness import Search
from trainables.checkpoints.heartbeat import last_beats

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The answers to all questions, asked on one Ray: its start takes longer than most of them."""
    folder = tmp_path_factory.mktemp("asked")
    told = execute(["tests.support.in_ray", folder], folder)[0]
    return dict(json.loads(told.splitlines()[-1]))


def test_a_worker_that_has_trained_others_trains_as_a_fresh_one(answers: dict[str, Any]) -> None:
    """Nothing is carried over: one worker for all in turn, a fresh one for each, and two side by
    side come to the same metrics, bit by bit.
    """
    assert answers["warm"] == answers["cold"]
    assert answers["side_by_side"] == answers["cold"][:2]
    assert len({json.dumps(trial) for trial in answers["cold"]}) == 3


def test_fused_trials_come_to_the_metrics_of_each_alone(answers: dict[str, Any]) -> None:
    """In float32, to a hundred-thousandth; each member has its own learning rate."""
    assert answers["fused"]["processes"] == 1
    for mine, alone in zip(answers["fused"]["metrics"], answers["exact"], strict=True):
        for epoch, other in zip(mine, alone, strict=True):
            assert epoch == pytest.approx(other, rel=1e-5)


def test_places_in_a_worker_are_filled_evenly_freed_and_filled_again_when_it_died(
    answers: dict[str, Any],
) -> None:
    assert answers["places"] == [[1, 1], [0, 1]]
    assert answers["after_death"] == ["ActorDiedError", 2]


def test_a_trial_in_a_worker_that_is_slow_to_start_trains_once_that_has_heard_of_it(
    answers: dict[str, Any],
) -> None:
    """Nobody waits for it longer than for others, and a worker has several threads: one could train
    before another has heard what.
    """
    assert answers["slow_start"] == answers["cold"][0]


def test_a_place_that_does_not_stop_in_time_breaks_no_search_off(answers: dict[str, Any]) -> None:
    """Tune kills it after ten seconds, and a place in a shared worker is no actor of Ray's."""
    assert answers["never_stops"] == ["completed", "completed"]


def test_a_worker_that_was_started_to_evaluate_also_tests(answers: dict[str, Any]) -> None:
    evaluated, tested = answers["after_the_last_trial"]
    assert evaluated == tested


def test_where_no_worker_finds_a_place_the_evaluation_is_given_up(answers: dict[str, Any]) -> None:
    assert answers["no_place"] == {NOBODY: ["t0001"]}


@pytest.mark.usefixtures("database")
def test_a_fused_search_ends_well(tmp_path: Path) -> None:
    """The real command: every trial and epoch is there, out of two processes."""
    search = Search(tmp_path, "fused")
    words = [
        "--space",
        "smoke",
        "--set",
        "batch_size=32",
        "--set",
        "model.width=2",
        "--algorithm",
        "random",
        "--scheduler",
        "fifo",
        "--trials",
        "8",
    ]
    done = search.run(*words, "--fuse", "4").finish()
    assert done.code == 0, done.err
    assert done.summary["trials"] == {"completed": 8}
    assert {
        trial: len(found.epochs)
        for trial, found in SearchResult.read(search.journal.parent).trials.items()
    } == {f"t000{n}": 2 for n in range(1, 9)}
    (start,) = search.events("started")
    assert (start["packing"]["members"], start["slots"]) == (4, 8)
    pids = {
        beat.pid
        for folder in (search.journal.parent / "trials").iterdir()
        if (beat := last_beats([folder])[0]) is not None
    }
    assert len(pids) == 2
    assert len(search.events("evaluated")) == 8


@pytest.mark.usefixtures("database")
def test_on_a_cluster_the_next_search_takes_the_workers_over(tmp_path: Path) -> None:
    """The same processes train in both searches; a search that reads other code would start its
    own.
    """
    with cluster(2) as (address, environment):
        pids = []
        for name in ("first", "second"):
            search = Search(tmp_path, name)
            done = search.run(
                "--space",
                "smoke",
                "--algorithm",
                "random",
                "--scheduler",
                "fifo",
                "--address",
                address,
                environment=environment,
            ).finish()
            assert done.code == 0, done.err
            assert SearchResult.read(search.journal.parent).outcome == "completed"
            assert len(search.events("evaluated")) == 4
            pids.append(
                {
                    beat.pid
                    for folder in (search.journal.parent / "trials").iterdir()
                    if (beat := last_beats([folder])[0]) is not None
                }
            )
    assert pids[1] <= pids[0]
