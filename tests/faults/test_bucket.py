"""F16: a search in a bucket whose driver dies with its machine, and one whose bucket refuses."""

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.bucket import BucketSearch
from tests.faults.harness import GRID, Done, Search
from tests.faults.oracle import assert_contract, assert_same_best
from tests.faults.proxy import Proxy
from tests.support.services import S3, seaweedfs

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SLOW = {"do": "sleep", "seconds": 0.3}
SLOTS = 2
OpenBucket = Callable[..., BucketSearch]


def refusal(code: str, status: int) -> tuple[int, str]:
    """Return a refusal in the words of S3."""
    return (
        status,
        "<?xml version='1.0' encoding='UTF-8'?>"
        f"<Error><Code>{code}</Code><Message>{code}</Message></Error>",
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A real S3 server."""
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as running:
        yield running


@pytest.fixture
def open_bucket(
    tmp_path_factory: pytest.TempPathFactory, server: S3, empty_database: Path
) -> Iterator[OpenBucket]:
    """Makes searches in its bucket."""
    with ExitStack() as stack:

        def make(endpoint: str = "") -> BucketSearch:
            folder = tmp_path_factory.mktemp("search")
            shutil.copy(empty_database, folder / "mlflow.db")
            search = BucketSearch(folder, server, endpoint)
            stack.callback(search.end)
            return search

        yield make


@pytest.fixture
def proxy(server: S3) -> Iterator[Proxy]:
    """Between a search and its bucket."""
    made = Proxy(server.endpoint, same_host=True)
    yield made
    made.close()


@pytest.mark.promise
def test_a_search_whose_machine_is_lost_goes_on_from_another(
    open_bucket: OpenBucket, undisturbed: tuple[Search, Done]
) -> None:
    """F1: all that the second machine has is the bucket."""
    search = open_bucket()
    search.plan(SLOW)
    search.run(*GRID).wait_for_epochs(5)
    search.kill9()
    search.machine = "second"
    search.plan()
    done = search.resume().finish()
    assert done.code == 0, done.err
    assert_contract(search, kills=SLOTS, undisturbed=undisturbed[0])
    assert_same_best(done, undisturbed[1])
    best = f"trials/{done.summary['best']['trial_id']}/epoch-{done.summary['best']['epoch']:04d}"
    assert done.summary["best"]["checkpoint"] == f"{search.where}/{search.name}/{best}"
    assert {
        f"{best}/manifest.json",
        f"{best}/model.safetensors",
        "report.html",
        "pictures/curves.png",
    } <= set(search.keys())
    machines = [
        path
        for path in search.folder.glob("* machine/image-classifier-search/storage/*/*")
        if path.parent.name == "trained"
    ]
    assert not [path for path in machines if "second" in str(path)], (
        "a machine keeps no copy of a trial that is over"
    )


@pytest.mark.long
def test_what_a_bucket_refuses_is_asked_for_again_told_and_waited_for(
    open_bucket: OpenBucket, proxy: Proxy, undisturbed: tuple[Search, Done]
) -> None:
    """F16: 30 % of all requests are answered with 503 SlowDown. Meanwhile a permission is taken
    away, and the credentials expire; somebody mends both.
    """
    chance = random.Random(1)

    def slow_down(method: str, path: str) -> tuple[int, str] | None:
        return refusal("SlowDown", 503) if chance.random() < 0.3 else None

    proxy.refusal = slow_down
    search = open_bucket(proxy.uri)
    search.plan(SLOW)
    search.run(*GRID).wait_for_epochs(2)
    proxy.refusal = lambda method, path: refusal("AccessDenied", 403) if method == "PUT" else None
    search.wait_until(
        lambda: (
            "access denied (403 AccessDenied); the permission s3:PutObject is missing" in search.err
        )
    )
    proxy.refusal = slow_down
    search.wait_for_epochs(len(search.truth()) + 4)
    proxy.refusal = lambda method, path: refusal("ExpiredToken", 400)
    search.wait_until(
        lambda: "the credentials have expired (ExpiredToken); renew them" in search.err
    )
    proxy.refusal = slow_down
    done = search.finish()
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    assert proxy.refused > 100
    assert_contract(search, undisturbed=undisturbed[0])
    assert_same_best(done, undisturbed[1])
