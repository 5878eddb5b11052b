"""The server on a cluster, by Ray Serve."""

import io
import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from search.operations.serve import replicas
from search.serving import ray_serve
from search.serving.messages import ModelVersion, WatchedModel, WorkerSettings
from search.serving.ray_serve import ClusterDeployment, StopSignal
from tests.conftest import Command
from tests.support.hosts import Host, network
from tests.support.nodes import QUICK
from tests.support.promoted import linear
from trainables.errors import ConfigError

PORT, RAY_PORT, TOKEN = 8123, 6390, "a" * 32
Answers = list[tuple[float, str, int, str]]
"""When each was asked for, the class, the status and the process."""

LOAD = """
import json, sys, threading, time, urllib.error, urllib.request

address, body = sys.argv[1], bytes.fromhex(sys.argv[2])
answers, over = [], threading.Event()

def ask():
    while not over.is_set():
        request = urllib.request.Request(address, body, {"Content-Type": "application/x-npy"})
        began = time.time()
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                found = json.load(answer)["predictions"][0]
                said = found["class"], answer.status, found["id"][:12]
        except urllib.error.HTTPError as error:
            said = "", error.code, ""
        except OSError as error:
            said = repr(error), 0, ""
        answers.append((began, *said))

threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads:
    thread.start()
print("began", flush=True)
for line in sys.stdin:
    print(json.dumps([time.time(), answers]), flush=True)
over.set()
for thread in threads:
    thread.join()
print(json.dumps([time.time(), answers]), flush=True)
"""
"""Asks the server from eight threads until stdin ends; for each line there, and at the end, prints
the time and all answers: when each was asked for, the class, the status and the process.
"""


def test_replicas_are_a_number_or_a_range() -> None:
    assert (replicas("2"), replicas("1:4")) == ((2, 2), (1, 4))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--address", "local"], "--address local is not allowed. To serve on this machine,"),
        (["--address", "auto", "--workers", "2"], "--workers cannot be used on a cluster"),
        (
            ["--address", "auto", "--replicas", "4:1"],
            "expected a number of replicas from 1 to 1000, or a range MIN:MAX such as 1:4",
        ),
    ],
)
def test_what_a_cluster_cannot_do_is_said(
    folder: Path, call: Command, words: list[str], text: str
) -> None:
    done = call("search.serve", folder, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr


def test_only_a_version_that_is_no_good_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 4 cannot be fetched at first; 5 is no model."""
    source = WatchedModel("m", str(tmp_path), "", None, None, None, "m", True, 1.0)
    wanted = ClusterDeployment(WorkerSettings("m", "", 0, 1, 0.1), "", 1, "/", (1, 1), source)
    versions, found, deployed = iter("44455"), list[str](), list[str]()
    monkeypatch.setattr(ray_serve, "current_version", lambda _: versions_now[-1])
    versions_now = ["3"]

    def find(_: ClusterDeployment) -> ModelVersion:
        found.append(versions_now[-1])
        if found == ["4"]:
            raise OSError("a passing error")
        (tmp_path / str(len(found))).mkdir()
        return ModelVersion(versions_now[-1], str(tmp_path / str(len(found))))

    def ready(_: ClusterDeployment, coming: ModelVersion) -> Any:
        if coming.version == "5":
            raise ConfigError("it is no model.")
        return SimpleNamespace(model=None)

    class Signal(StopSignal):
        def wait(self, seconds: float | None) -> bool:
            versions_now.append(next(versions, ""))
            return not versions_now[-1]

    monkeypatch.setattr(ray_serve, "_fetch_current", find)
    monkeypatch.setattr(ray_serve, "_load", ready)
    monkeypatch.setattr(ray_serve, "mismatch", lambda *_: "")
    monkeypatch.setattr(ray_serve, "_deploy", lambda _, coming: deployed.append(coming.version))
    (tmp_path / "0").mkdir()
    first = ModelVersion("3", str(tmp_path / "0"))
    ray_serve._follow_alias(wanted, first, ready(wanted, first), Signal())
    assert (found, deployed) == (["4", "4", "5"], ["4"])
    assert [path.name for path in tmp_path.iterdir()] == ["2"]


def test_an_alias_that_comes_back_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also to the first version, and past one that is no good; each look finds one more version."""
    source = WatchedModel("m", str(tmp_path), "", None, None, None, "m", True, 1.0)
    wanted = ClusterDeployment(WorkerSettings("m", "", 0, 1, 0.1), "", 1, "/", (1, 1), source)
    looks, deployed, now = iter("2213321"), list[str](), ["1"]

    class Signal(StopSignal):
        def wait(self, seconds: float | None) -> bool:
            now[0] = next(looks, "")
            return not now[0]

    def ready(_: ClusterDeployment, coming: ModelVersion) -> Any:
        if coming.version == "3":
            raise ConfigError("it is no model.")
        return SimpleNamespace(model=None)

    monkeypatch.setattr(ray_serve, "current_version", lambda _: now[0])
    monkeypatch.setattr(
        ray_serve, "_fetch_current", lambda _: ModelVersion(now[0], str(tmp_path / "elsewhere"))
    )
    monkeypatch.setattr(ray_serve, "_load", ready)
    monkeypatch.setattr(ray_serve, "mismatch", lambda *_: "")
    monkeypatch.setattr(ray_serve, "_deploy", lambda _, coming: deployed.append(coming.version))
    ray_serve._follow_alias(
        wanted, ModelVersion("1", str(tmp_path / "first")), SimpleNamespace(model=None), Signal()
    )
    assert deployed == ["2", "1", "2", "1"]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """Provide two hosts, each a node of one Ray cluster with one CPU, which one replica takes."""
    # By itself a node's own replica is preferred, and the other would have nothing to lose.
    routing = {"RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING": "0"}
    # As on a busy machine: no door is open so soon, and Ray Serve would kill it.
    busy = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "0.01"}
    settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, **QUICK, **routing, **busy}
    bashrc = "\n".join(f"export {name}={value}" for name, value in settings.items())
    with network(tmp_path / "net", ("head", "other"), shared=[tmp_path], bashrc=bashrc) as made:
        head, other = made.hosts.values()
        given = ["--num-cpus", 1, "--disable-usage-stats", "--include-dashboard", "false"]
        head.run(
            *["ray", "start", "--head", "--port", RAY_PORT, *given],
            *["--node-ip-address", head.address],
        )
        other.run(
            *["ray", "start", "--address", f"{head.address}:{RAY_PORT}", *given[:2]],
            *["--node-ip-address", other.address],
        )
        yield head, other


@contextmanager
def running(host: Host, *command: object) -> Iterator["subprocess.Popen[str]"]:
    """Run a command on a host, and end it by SIGTERM."""
    pipe = subprocess.PIPE
    words = host.words(*command, folder=str(Path.cwd()))
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.mark.ray
@pytest.mark.slow(60)
@pytest.mark.long
def test_a_node_that_is_cut_off_leaves_no_request_unanswered(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    """Each node has room for one of two replicas; the load goes through the head's own door."""
    head, other = hosts
    folder = linear(tmp_path / "model", always=3)
    serve = ["python", "-m", "search.serve", folder, "--address", f"{head.address}:{RAY_PORT}"]
    at = ["--host", "0.0.0.0", "--port", PORT, "--replicas", 2, "--prefix", "/digits"]
    body = io.BytesIO()
    np.save(body, np.zeros((1, 8, 8), dtype=np.uint8))
    address = f"http://{head.address}:{PORT}/digits/predict"
    with running(head, *serve, *at) as served:
        assert served.stdout is not None
        assert served.stdout.readline().startswith("serving ")
        with running(head, "python", "-c", LOAD, address, body.getvalue().hex()) as load:
            assert load.stdin is not None
            assert load.stdout is not None
            load.stdout.readline()
            asked(load, lambda answers, _: len(processes(answers)) == 2)
            other.cut()
            cut = time.time()
            # As long as it takes to notice, and a while more.
            asked(load, lambda answers, now: now > cut + 20 and is_well(answers))
            load.stdin.close()
            answers = json.loads(load.stdout.readline())[1]
    assert Counter(status for _, _, status, _ in answers).keys() <= {200, 500, 503}
    assert {said for _, said, status, _ in answers if status == 200} == {"3"}
    assert is_well(answers)


def asked(load: "subprocess.Popen[str]", is_enough: Callable[[Answers, float], bool]) -> Answers:
    """Return the answers so far, once they are enough at this time.

    They are looked at now and then only: to tell them all takes the processor that makes more.
    """
    assert load.stdin is not None
    assert load.stdout is not None
    while True:
        time.sleep(0.2)
        load.stdin.write("\n")
        load.stdin.flush()
        now, answers = json.loads(load.stdout.readline())
        if is_enough(answers, now):
            return answers  # type: ignore[no-any-return]


def is_well(answers: Answers) -> bool:
    """Return whether all is answered, by one replica."""
    last = sorted(answers)[-50:]
    return {status for _, _, status, _ in last} == {200} and len(processes(last)) == 1


def processes(answers: Answers) -> set[str]:
    """Return the replicas that have answered."""
    return {process for _, _, status, process in answers if status == 200}
