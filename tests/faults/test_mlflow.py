"""MLflow is slow, away, forgetful or meddled with: training never waits for it, and in the end it holds everything once."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from tests.faults.conftest import OpenSearch
from tests.faults.harness import GRID, Done, Search, Server, free_port, wait_for
from tests.faults.oracle import account, all_runs, assert_contract, assert_same_best
from tests.faults.proxy import Proxy

pytestmark = [pytest.mark.ray, pytest.mark.slow]

Undisturbed = tuple[Search, Done]


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """In front of the server."""
    made = Proxy(server.uri)
    yield made
    made.close()


def longest_pause(search: Search) -> float:
    """Seconds between two epochs' ends, at most."""
    times = [line["time_ns"] for line in search.truth()]
    return max(later - sooner for sooner, later in pairwise(times)) / 1e9


def test_a_server_that_dies_and_comes_back_costs_nothing(open_search: OpenSearch, server: Server, undisturbed: Undisturbed) -> None:
    """F3: killed and started again at once, then away for 15 s. Training does not wait, and the end comes without help."""
    search = open_search(name="comes-back", tracking=server.uri)
    search.plan({"do": "sleep", "seconds": 1.5})
    search.run(*GRID).wait_for_epochs(2)
    server.kill()
    server.start()
    search.wait_for_epochs(8)
    server.kill()
    away = time.monotonic()
    search.wait_until(lambda: time.monotonic() - away > 15)
    server.start()
    done = search.finish()
    assert done.code == 0, done.err
    assert_contract(search, undisturbed=undisturbed[0])
    assert_same_best(done, undisturbed[1])
    assert longest_pause(search) < 5


@pytest.mark.promise
def test_a_server_that_stays_away_is_told_and_can_be_caught_up_with(open_search: OpenSearch, server: Server, undisturbed: Undisturbed) -> None:
    """F3: never back while the search runs: exit 4 within a minute of the last epoch, and `search.sync` brings the rest."""
    search = open_search(name="stays-away", tracking=server.uri)
    search.run(*GRID).wait_for_epochs(2)
    server.kill()
    try:
        done = search.finish()
        late = time.time() - search.truth()[-1]["time_ns"] / 1e9
    finally:
        server.start()
    assert done.code == 4, done.err
    assert "search.sync stays-away" in done.err
    assert "Traceback" not in done.err
    assert done.summary["epochs_trained"] == 27
    assert late < 60
    synced = search.start("sync", search.name).finish()
    assert synced.code == 0, synced.err
    assert_contract(search, undisturbed=undisturbed[0])
    again = search.start("sync", search.name).finish()
    assert again.code == 0, again.err
    assert_contract(search, undisturbed=undisturbed[0])


def test_lost_answers_make_no_second_run_and_no_second_row(open_search: OpenSearch, proxy: Proxy, server: Server, undisturbed: Undisturbed) -> None:
    """F19: the server did what it was asked, and the connection broke before it could say so."""
    search = open_search(name="lost-answers", tracking=proxy.uri)
    search.plan({"do": "sleep", "seconds": 0.5})
    proxy.drop_answers("runs/create", 2)
    search.run(*GRID)
    search.wait_until(lambda: proxy.drops == 0)
    proxy.drop_answers("runs/log-batch", 3)
    search.wait_until(lambda: proxy.drops == 0)
    proxy.drop_answers("runs/update", 1)
    done = search.finish()
    assert done.code == 0, done.err
    assert proxy.drops == 0
    assert_contract(search, undisturbed=undisturbed[0], uri=server.uri)


def test_a_black_hole_holds_nothing_up(open_search: OpenSearch, proxy: Proxy, server: Server, undisturbed: Undisturbed) -> None:
    """F3: requests are taken and never answered, then all is well again."""
    search = open_search(name="black-hole", tracking=proxy.uri)
    search.plan({"do": "sleep", "seconds": 0.5})
    search.run(*GRID).wait_for_epochs(3)
    proxy.mode = "black_hole"
    search.wait_for_epochs(20)
    proxy.mode = "forward"
    done = search.finish()
    assert done.code == 0, done.err
    assert longest_pause(search) < 5
    assert_contract(search, undisturbed=undisturbed[0], uri=server.uri)


def nobody(server: Server) -> str:
    """A port on which nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


def black_hole(server: Server) -> str:
    """A server that never answers; its threads end with the test run."""
    hole = Proxy(server.uri)
    hole.mode = "black_hole"
    return hole.uri


def unknown_host(server: Server) -> str:
    """A name that does not resolve."""
    return "http://no-such-host.invalid:5000"


@pytest.mark.parametrize("address", [nobody, black_hole, unknown_host])
def test_an_unreachable_server_is_told_within_ten_seconds(address: Callable[[Server], str], open_search: OpenSearch, server: Server) -> None:
    """F12: before anything starts."""
    uri = address(server)
    search = open_search(name="unreachable", tracking=uri)
    done = search.run(*GRID).finish()
    assert done.code == 4
    assert done.seconds < 10
    assert f"MLflow not reachable at {uri}" in done.err
    assert "Traceback" not in done.err
    assert not search.home.exists()


@pytest.mark.parametrize("seconds", [25, pytest.param(60, marks=pytest.mark.soak)])
def test_a_locked_database_is_slow_and_loses_nothing(seconds: float, open_search: OpenSearch, undisturbed: Undisturbed) -> None:
    """F20: another process writes to the SQLite file for longer than MLflow waits for it (20 s)."""
    search = open_search(name="locked")
    search.run(*GRID).wait_for_epochs(3)
    with closing(sqlite3.connect(search.folder / "mlflow.db", timeout=30, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        threading.Event().wait(seconds)
        database.execute("ROLLBACK")
    done = search.finish()
    assert done.code == 0, done.err
    assert_contract(search, undisturbed=undisturbed[0])


def test_a_run_and_an_experiment_deleted_under_way_are_brought_back(open_search: OpenSearch, undisturbed: Undisturbed) -> None:
    """F32: somebody tidies up in MLflow's pages. Nothing that was trained may be missing at the end."""
    search = open_search(name="deleted")
    search.plan({"do": "sleep", "seconds": 0.5})
    search.run(*GRID).wait_for_epochs(4)
    client = MlflowClient(search.tracking)
    wait_for(lambda: any(run.data.tags.get("search.role") == "trial" for run in all_runs(client)))
    first = next(run for run in all_runs(client) if run.data.tags.get("search.role") == "trial")
    client.delete_run(first.info.run_id)
    search.wait_for_epochs(12)
    client.delete_experiment(first.info.experiment_id)
    done = search.finish()
    assert done.code == 0, done.err
    found = account(search)
    assert not found.lost
    assert not found.doubled
    assert not found.zombies
    active = [run for run in all_runs(client, ViewType.ACTIVE_ONLY) if run.data.tags["search.name"] == search.name]
    assert len(active) == 10
