"""One search in which trials die, raise, hang and diverge side by side: each ends as it should, and
the others do not notice.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.faults.conftest import OpenSearch
from tests.faults.harness import GRID, Done, Search
from tests.faults.oracle import all_runs, assert_contract, story

pytestmark = [pytest.mark.ray, pytest.mark.slow]

HANG_S = 90
"""A worker that is started in place of a killed one must train within it too, however busy the
machine is.
"""
FAULTS: list[dict[str, Any]] = [
    {"do": "kill", "trial": "t0001", "epoch": 2, "once": True},
    {"do": "raise", "trial": "t0002", "epoch": 3, "message": "no such luck"},
    {"do": "metric", "trial": "t0003", "epoch": 2, "name": "train/loss", "value": "nan"},
    {"do": "spoil", "trial": "t0004", "epoch": 3, "file": "model.safetensors", "once": True},
    {"do": "stop", "trial": "t0005", "epoch": 2, "once": True},
    {"do": "metric", "trial": "t0006", "epoch": 2, "name": "val/accuracy", "value": "inf"},
    {"do": "metric", "trial": "t0007", "epoch": 1, "name": "val/loss", "value": "-inf"},
    {"do": "memory_error", "trial": "t0008", "epoch": 2, "message": "CUDA out of memory"},
]


@pytest.fixture(scope="module")
def troubled(open_search: OpenSearch) -> tuple[Search, Done]:
    """The tiny grid; only t0009 is left in peace."""
    search = open_search()
    search.plan(*FAULTS)
    return search, search.run(*GRID, "--hang-timeout", HANG_S).finish()


@pytest.fixture(scope="module")
def status(troubled: tuple[Search, Done]) -> Callable[[str], str]:
    """A trial's status in MLflow."""
    runs = {
        run.data.tags.get("search.trial", ""): run.info.status
        for run in all_runs(MlflowClient(troubled[0].tracking))
    }
    return runs.__getitem__


def test_a_search_with_failed_trials_ends_and_says_so(troubled: tuple[Search, Done]) -> None:
    """F6, F8, F9, F10, F26: exit 3, everything that was trained is in MLflow, at most one epoch
    again for each of the three killed trials.
    """
    search, done = troubled
    assert done.code == 3, done.err
    assert len(done.out.splitlines()) == 1
    assert done.summary["outcome"] == "completed"
    assert done.summary["trials"] == {"completed": 4, "failed": 2, "diverged": 3}
    assert_contract(search, kills=3)


def test_trials_that_were_helped_or_left_alone_train_as_if_nothing_had_happened(
    troubled: tuple[Search, Done], undisturbed: tuple[Search, Done]
) -> None:
    """F8, F9, F26: the same curves, to the last digit."""
    told, expected = story(troubled[0]), story(undisturbed[0])
    for trial in ("t0001", "t0004", "t0005", "t0009"):
        assert told[trial] == expected[trial]


def test_a_killed_worker_is_replaced_and_its_trial_goes_on(troubled: tuple[Search, Done]) -> None:
    """F8: the trial goes on from its newest checkpoint."""
    search, _ = troubled
    assert [event["kind"] for event in search.events("retried") if event["trial"] == "t0001"] == [
        "lost"
    ]
    assert [line["epoch"] for line in search.truth() if line["trial"] == "t0001"] == [1, 2, 2, 3]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    troubled: tuple[Search, Done],
) -> None:
    """F9: epoch 2's checkpoint is cut off, so epoch 2 is trained again from epoch 1's, and the user
    is told.
    """
    search, done = troubled
    assert [line["epoch"] for line in search.truth() if line["trial"] == "t0004"] == [1, 2, 2, 3]
    assert any("damaged" in line and "epoch-0002" in line for line in done.err.splitlines())


def test_a_trial_that_raises_fails_with_its_traceback(
    troubled: tuple[Search, Done], status: Callable[[str], str], tmp_path: Path
) -> None:
    """F6: not tried again, FAILED in MLflow, with the traceback beside it; its two good epochs are
    kept.
    """
    search, done = troubled
    ended = search.outcome("t0002")
    assert (ended["outcome"], ended["kind"]) == ("failed", "error")
    assert status("t0002") == "FAILED"
    assert not [event for event in search.events("retried") if event["trial"] == "t0002"]
    assert "no such luck" in done.err
    client = MlflowClient(search.tracking)
    (run,) = (run for run in all_runs(client) if run.data.tags.get("search.trial") == "t0002")
    kept = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path)))
    texts = [path.read_text() for path in kept.rglob("*.txt")]
    assert any('File "' in text and "RuntimeError: no such luck" in text for text in texts)


@pytest.mark.parametrize("trial", ["t0003", "t0006", "t0007"])
def test_a_metric_that_is_no_number_ends_its_trial_at_once(
    trial: str, troubled: tuple[Search, Done], status: Callable[[str], str]
) -> None:
    """F10: NaN, infinity and minus infinity: diverged, never best, nothing of it in MLflow's
    curves.
    """
    search, done = troubled
    assert search.outcome(trial)["outcome"] == "diverged"
    assert status(trial) == "FAILED"
    assert done.summary["best"]["trial_id"] != trial
    assert 0 < done.summary["best"]["val_accuracy"] <= 1
    faulty = next(fault["epoch"] for fault in FAULTS if fault["trial"] == trial)
    assert max(line["epoch"] for line in search.truth() if line["trial"] == trial) == faulty


def test_a_hung_trial_is_killed_and_tried_again(troubled: tuple[Search, Done]) -> None:
    """F26: its worker was stopped (SIGSTOP)."""
    search, _ = troubled
    assert [event["kind"] for event in search.events("retried") if event["trial"] == "t0005"] == [
        "hung"
    ]
    assert search.outcome("t0005")["outcome"] == "completed"


def test_a_trial_without_memory_is_tried_once_more(troubled: tuple[Search, Done]) -> None:
    """F2: as when the device is out of memory: one more try, then failed of memory."""
    search, _ = troubled
    assert [event["kind"] for event in search.events("retried") if event["trial"] == "t0008"] == [
        "memory"
    ]
    ended = search.outcome("t0008")
    assert (ended["outcome"], ended["kind"]) == ("failed", "memory")


@pytest.mark.xdist_group("memory")  # at once, one would eat what the other counts on
@pytest.mark.parametrize("epoch", [1, 2], ids=["before it reports", "after it reported"])
def test_a_trial_that_eats_the_machines_memory_falls_alone(
    epoch: int, open_search: OpenSearch
) -> None:
    """F2: Ray's memory monitor kills it; the others finish."""
    facts = dict(line.split()[:2] for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = int(facts["MemTotal:"]), int(facts["MemAvailable:"])
    room = min(
        0.25, free / total / 2
    )  # what other processes of the machine come to need or give back meanwhile decides nothing
    most = 1 - free / total + room
    threshold = {
        "RAY_memory_usage_threshold": f"{most:.3f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    search = open_search()
    share = most + min(0.12, (1 - most) / 2)
    search.plan({"do": "allocate", "share": share, "trial": "t0002", "epoch": epoch})
    done = search.run(*GRID, "--trials", 4, environment=threshold).finish()
    assert done.code == 3, done.err
    assert done.summary["trials"] == {"completed": 3, "failed": 1}
    assert search.outcome("t0002")["kind"] == "memory"
    assert_contract(search, kills=1)
