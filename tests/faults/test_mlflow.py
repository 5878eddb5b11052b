"""MLflow is slow, away, forgetful or meddled with: training never waits for it, and in the end it
holds everything once.
"""

import time
from collections.abc import Iterator

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from tests.faults.conftest import OpenSearch
from tests.faults.harness import GRID, Done, Search, Server, wait_for
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


SLOW = {"do": "sleep", "seconds": 1.5}
LAST = {"do": "hold", "trial": "t0009", "epoch": 3}
"""It is not trained before all faults are over: who waits for MLflow at a search's end does so for
half a minute.
"""


def gate(trials: int) -> list[dict[str, object]]:
    """Let so many trials train, and hold all others before their first epoch."""
    return [
        {"do": "hold", "trial": f"t{number:04d}", "epoch": 1} for number in range(trials + 1, 10)
    ]


def test_a_server_that_is_away_silent_or_forgetful_costs_nothing(
    open_search: OpenSearch, proxy: Proxy, server: Server, undisturbed: Undisturbed
) -> None:
    """F3, F19: answers are lost when the server has done what it was asked; it is killed and
    started again at once, then away for 15 s; it takes requests and never answers. Training goes on
    meanwhile: six epochs are trained and told before the server is back, and four while one and the
    same request waits for its answer. Nothing is recorded twice, and the end comes without help.
    """
    search = open_search(name="troubled", tracking=proxy.uri)
    search.plan(SLOW, *gate(3))
    proxy.drop_answers("runs/create", 2)
    search.run(*GRID)
    search.wait_until(lambda: proxy.drops == 0, what="lost answers about runs")
    proxy.drop_answers("runs/log-batch", 3)
    search.wait_until(lambda: proxy.drops == 0, what="lost answers about metrics")
    search.wait_for_epochs(9)
    server.kill()
    server.start()
    search.plan(SLOW, *gate(5))
    search.wait_for_epochs(15)
    server.kill()
    away = time.monotonic()
    search.plan(SLOW, *gate(7))
    search.wait_until(lambda: len(search.events("epoch")) == 21, what="epochs without a server")
    search.wait_until(lambda: time.monotonic() - away > 15)
    proxy.mode = "black_hole"
    server.start()
    # One that began while the server started may have little of its 20 s left for four epochs.
    earlier = list(proxy.held)
    search.wait_until(
        lambda: any(request not in earlier for request in proxy.held),
        what="a request that gets no answer",
    )
    request = proxy.held[-1]
    search.plan(LAST)
    search.wait_until(
        lambda: len(search.events("epoch")) >= 25 or request not in proxy.held,
        what="epochs, or the end of the request",
    )
    assert len(search.events("epoch")) >= 25, "training waited for MLflow"
    proxy.drop_answers("runs/update", 1)
    search.plan()
    done = search.finish()
    assert done.code == 0, done.err
    assert proxy.drops == 0
    assert_contract(search, undisturbed=undisturbed[0], uri=server.uri)
    assert_same_best(done, undisturbed[1])


@pytest.mark.promise
def test_a_server_that_stays_away_is_told_and_can_be_caught_up_with(
    open_search: OpenSearch, server: Server, undisturbed: Undisturbed
) -> None:
    """F3: never back while the search runs: exit 4, and `search.sync` brings the rest."""
    search = open_search(name="stays-away", tracking=server.uri)
    search.run(*GRID).wait_for_epochs(2)
    server.kill()
    try:
        done = search.finish()
    finally:
        server.start()
    assert done.code == 4, done.err
    assert "search.sync stays-away" in done.err
    assert "Traceback" not in done.err
    assert done.summary["epochs_trained"] == 27
    synced = search.start("sync", search.name).finish()
    assert synced.code == 0, synced.err
    assert_contract(search, undisturbed=undisturbed[0])
    again = search.start("sync", search.name).finish()
    assert again.code == 0, again.err
    assert_contract(search, undisturbed=undisturbed[0])


def test_a_run_and_an_experiment_deleted_under_way_are_brought_back(
    open_search: OpenSearch, undisturbed: Undisturbed
) -> None:
    """F32: somebody tidies up in MLflow's pages. Nothing that was trained may be missing at the
    end.
    """
    search = open_search(name="deleted")
    search.plan({"do": "sleep", "seconds": 0.5}, LAST)
    search.run(*GRID).wait_for_epochs(4)
    client = MlflowClient(search.tracking)
    wait_for(lambda: any(run.data.tags.get("search.role") == "trial" for run in all_runs(client)))
    first = next(run for run in all_runs(client) if run.data.tags.get("search.role") == "trial")
    client.delete_run(first.info.run_id)
    search.wait_for_epochs(12)
    client.delete_experiment(first.info.experiment_id)
    search.plan()
    done = search.finish()
    assert done.code == 0, done.err
    found = account(search)
    assert not found.lost
    assert not found.doubled
    assert not found.zombies
    active = [
        run
        for run in all_runs(client, ViewType.ACTIVE_ONLY)
        if run.data.tags["search.name"] == search.name
    ]
    assert len(active) == 10
