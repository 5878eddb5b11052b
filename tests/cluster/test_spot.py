"""A spot machine's notice reaches Ray, and through Ray the code that moves work away."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from cluster import spot
from cluster.errors import NotReady
from tests.support.imds import Machine, metadata_service

END = "2030-01-02T03:04:05Z"


@pytest.fixture
def machine() -> Iterator[Machine]:
    with metadata_service("i-0123") as running:
        yield running


def test_no_notice_is_none(machine: Machine) -> None:
    assert spot.notice(imds=machine.url) is None
    assert spot.metadata(spot.INSTANCE, imds=machine.url) == "i-0123"


def test_a_notice_says_what_and_when(machine: Machine) -> None:
    machine.tell(json.dumps({"action": "stop", "time": END}))
    assert spot.notice(imds=machine.url) == spot.Notice(
        action="stop", time=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
    )


@pytest.mark.parametrize(
    "told",
    [
        "",
        "{}",
        "[]",
        '{"action": "stop"}',
        '{"action": "stop", "time": "soon"}',
        '{"action": "stop", "time": 7}',
    ],
)
def test_a_notice_that_is_not_understood_is_said(machine: Machine, told: str) -> None:
    machine.tell(told)
    with pytest.raises(ValueError, match="the spot notice cannot be parsed"):
        spot.notice(imds=machine.url)


def test_a_service_that_refuses_is_no_absence_of_notices(machine: Machine) -> None:
    machine.failures = 1
    with pytest.raises(OSError, match="503"):
        spot.notice(imds=machine.url)


def test_where_nobody_answers_the_watch_ends_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(spot, "PATIENCE_S", 0.1)
    assert (
        spot.main(
            ["--address", "127.0.0.1:9", "--metadata", "http://127.0.0.1:9", "--poll", "0.05"]
        )
        == 4
    )
    said = capsys.readouterr()
    assert "could not be read from the metadata service" in said.out
    assert said.err.startswith(
        "error: spot notices cannot be read from the metadata service at http://127.0.0.1:9 ("
    )
    assert said.err.endswith("Check that this machine is an instance of AWS EC2.\n")


def test_a_ray_that_does_not_know_the_machine_is_told_until_its_end(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def drain(address: str, instance: str, until: spot.Notice) -> str:
        asked.append((address, instance, until.action))
        if len(asked) < 3:
            raise NotReady("Ray has no running node on the instance i-0123")
        return "node"

    monkeypatch.setattr(spot, "drain", drain)
    machine.tell(json.dumps({"action": "terminate", "time": END}))
    said: list[str] = []
    assert spot.watch("head:6379", imds=machine.url, poll_s=0.01, say=said.append) == "node"
    assert asked == [("head:6379", "i-0123", "terminate")] * 3
    assert said[1:] == ["Ray has no running node on the instance i-0123; trying again"] * 2 + [
        "node node is draining"
    ]

    asked.clear()
    machine.tell(json.dumps({"action": "terminate", "time": "2020-01-01T00:00:00Z"}))
    with pytest.raises(NotReady, match="no running node"):
        spot.watch("head:6379", imds=machine.url, poll_s=0.01, say=said.append)
    assert len(asked) == 1


def played(which: str) -> dict[str, Any]:
    """Run a scenario of tests/support/spot_cluster.py, with a token as on every cluster."""
    with tempfile.TemporaryDirectory(
        prefix="spot-", dir="/tmp"
    ) as folder:  # sockets lie in it: a short name
        own = {
            "HOME": folder,
            "RAY_TMPDIR": folder,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        words = [sys.executable, "-m", "tests.support.spot_cluster", which]
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
            env={**os.environ, **own},
        )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.ray
@pytest.mark.slow
def test_a_machine_told_of_its_end_takes_nothing_new_finishes_and_leaves() -> None:
    """A metadata service that fails to answer once is asked again."""
    found = played("machine")
    first, announced, last = found["said"]
    assert first.startswith(
        "spot notices could not be read from the metadata service (HTTP Error 503"
    )
    assert announced.startswith("spot notice: AWS will terminate the instance i-leaves in ")
    assert last.endswith(" is draining")
    assert found["code"] == 0
    assert found["before"] == [{}, None]
    assert found["told"]
    assert found["working"] == "still here"
    assert found["alive meanwhile"]
    assert found["placed on the other"] == [True, True, None]
    assert found["leaving at last"] == {}
    assert found["others"]


@pytest.mark.ray
@pytest.mark.slow
def test_a_pod_that_is_told_to_end_is_drained_by_ray_itself() -> None:
    """The pod gets the time that rayjob.yaml gives it.

    It is gone as soon as its work is done, and not only at the end of that time.
    """
    assert played("pod") == {"told": True, "working": "still here", "code": 1, "gone": True}
