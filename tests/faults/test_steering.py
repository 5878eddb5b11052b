"""A search under Ray Tune that is steered, killed while it answers, asked while it is dead, paused
and resumed: in a folder, and in a bucket of a real S3 server.
"""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from search.journal import requests
from search.journal.store import home
from tests.faults.bucket import BucketSearch
from tests.faults.harness import TINY, Search
from tests.support.services import seaweedfs

pytestmark = [pytest.mark.ray, pytest.mark.slow(60)]

SPACE = ("--space", TINY, "--algorithm", "random", "--scheduler", "fifo", "--set", "epochs=30")
EPOCHS = {"played": {"epoch_s": 0.5}}
MIDST, LAST = 20, 30
"""The epochs before which a trial is held until somebody who asked has been answered: a busy
machine may take longer for that than all epochs take."""


def held(trial: str, epoch: int) -> dict[str, object]:
    """Return the fault that holds a trial before an epoch."""
    return {"do": "hold", "trial": trial, "epoch": epoch}


@pytest.fixture(params=[pytest.param("folder", marks=pytest.mark.long), "bucket"])
def search(
    request: pytest.FixtureRequest, tmp_path: Path, empty_database: Path
) -> Iterator[Search]:
    """A search in each kind of storage; what it has started is gone at the end."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    with ExitStack() as stack:
        if request.param == "folder":
            made = Search(tmp_path)
        else:
            made = BucketSearch(tmp_path, stack.enter_context(seaweedfs(tmp_path / "s3")))
        stack.callback(made.end)
        made.plan(**EPOCHS)
        yield made


def ask(search: Search, verb: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Call a verb that asks something of the search, as another user would."""
    where = search.where if isinstance(search, BucketSearch) else search.storage
    command = [sys.executable, "-m", f"search.{verb}", search.name, *words, "--storage", where]
    return subprocess.run(
        list(map(str, command)),
        cwd=search.folder,
        env={**os.environ, **search.environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def waiting(search: Search) -> list[str]:
    """Return the requests that are still there."""
    if isinstance(search, BucketSearch):
        there = search.keys()
        return [key for key in there if key.startswith("requests/")]
    return [path.name for path in (search.home / "requests").iterdir()]


def test_a_steered_search_does_what_it_was_asked_once_and_tells_it_once(search: Search) -> None:
    search.plan(held("t0001", MIDST), held("t0002", MIDST), **EPOCHS)
    search.run(*SPACE, "--trials", 2, "--concurrency", 2)
    search.wait_for_event("epoch", trial="t0001")
    asked = ask(search, "stop", "t0001", "--no-wait")
    assert asked.returncode == 0, asked.stderr
    search.wait_for_event("requested", action="stop")
    search.kill9()
    search.plan(held("t0004", MIDST), **EPOCHS)

    late = ask(search, "extend", "--trials", "+2", "--concurrency", 1)
    assert late.returncode == 0, late.stderr
    assert (
        "The search is not running; when it continues, the request is carried out first"
        in late.stdout
    )
    search.resume()
    search.wait_for_event("requested", action="extend")
    assert search.outcome("t0001")["outcome"] == "stopped"
    search.wait_for_event("suggested", trial="t0003")
    paused = ask(search, "pause")
    assert paused.returncode == 0, paused.stderr
    assert paused.stdout.startswith(
        "s: each trial finishes its current epoch, then the process of the search ends."
    )
    search.plan(held("t0004", LAST), **EPOCHS)
    done = search.finish()
    assert done.code == 130, done.err
    assert "Traceback" not in done.err

    search.resume()
    search.wait_until(lambda: len(search.events("resumed")) == 2, what="a third session")
    more = ask(search, "extend", "--concurrency", 2)
    assert more.stdout == "s: 2 trials at once\n", more.stderr
    search.plan(**EPOCHS)
    done = search.finish()
    assert done.code == 0, done.err
    outcomes = {event["trial"]: event["outcome"] for event in search.events("ended")}
    assert outcomes == {
        "t0001": "stopped",
        **dict.fromkeys(("t0002", "t0003", "t0004"), "completed"),
    }
    told = Counter(event["action"] for event in search.events("requested"))
    assert told == {"stop": 1, "extend": 2, "pause": 1}
    assert Counter(event["trial"] for event in search.events("stopped")) == {"t0001": 1}
    assert search.events("slots")[-1]["count"] == 2
    assert waiting(search) == []
    trained = Counter((one["trial"], one["epoch"]) for one in search.events("epoch"))
    assert max(trained.values()) == 1


@pytest.mark.parametrize("search", ["folder"], indirect=True)
def test_trials_asked_for_as_the_last_one_ends_are_trained_or_come_too_late(
    search: Search,
) -> None:
    """Ray Tune has ended by then, or does so now: it is begun once more.

    Either may be, as long as what was answered is what was done.
    """
    search.run(*SPACE, "--trials", 1, "--concurrency", 1, "--max-epochs", 2)
    search.wait_for_event("ended", trial="t0001")
    requests.ask(
        home(search.storage, search.name), requests.DriverRequest.now("extend", trials="+1")
    )
    done = search.finish()
    assert done.code == 0, done.err
    (told,) = search.events("requested")
    ended = [event["trial"] for event in search.events("ended")]
    if told.get("is_refused"):
        assert f"too late: the trials of '{search.name}' have ended" in told["answer"]
        assert ended == ["t0001"]
    else:
        assert told["answer"].startswith("2 trials in total")
        assert ended == ["t0001", "t0002"]
