"""The server on a cluster of two hosts, by Ray Serve."""

import io
import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.hosts import Host, network
from tests.support.nodes import QUICK
from tests.support.promoted import linear

PORT, RAY_PORT, TOKEN = 8123, 6390, "a" * 32

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
                said = json.load(answer)["predictions"][0]["class"], answer.status
        except urllib.error.HTTPError as error:
            said = "", error.code
        except OSError as error:
            said = repr(error), 0
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
the time and all answers: when each was asked for, the class and the status.
"""


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """Provide two hosts, each a node of one Ray cluster with two CPUs."""
    settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, **QUICK}
    bashrc = "\n".join(f"export {name}={value}" for name, value in settings.items())
    with network(tmp_path / "net", ("head", "other"), shared=[tmp_path], bashrc=bashrc) as made:
        head, other = made.hosts.values()
        given = ["--num-cpus", 2, "--disable-usage-stats", "--include-dashboard", "false"]
        head.run(
            *["ray", "start", "--head", "--port", RAY_PORT, *given],
            *["--node-ip-address", head.address],
        )
        other.run(
            *["ray", "start", "--address", f"{head.address}:{RAY_PORT}", *given[:2]],
            *["--node-ip-address", other.address],
        )
        yield head, other


def running(host: Host, *command: object) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return subprocess.Popen(
        host.words(*command, folder=str(Path.cwd())), stdin=pipe, stdout=pipe, text=True
    )


@pytest.mark.ray
@pytest.mark.slow(60)
def test_a_node_that_is_cut_off_leaves_no_request_unanswered(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    """Each node has room for one of two replicas; the load goes through the head's own door."""
    head, other = hosts
    folder = linear(tmp_path / "model", always=3)
    served = running(
        head,
        *["python", "-m", "search.serve", folder, "--address", f"{head.address}:{RAY_PORT}"],
        *["--host", "0.0.0.0", "--port", PORT, "--replicas", 2, "--prefix", "/digits"],
    )
    assert served.stdin is not None
    assert served.stdout is not None
    assert served.stdout.readline().startswith("serving ")
    body = io.BytesIO()
    np.save(body, np.zeros((1, 8, 8), dtype=np.uint8))
    address = f"http://{head.address}:{PORT}/digits/predict"
    load = running(head, "python", "-c", LOAD, address, body.getvalue().hex())
    assert load.stdin is not None
    assert load.stdout is not None
    load.stdout.readline()
    other.cut()
    began = time.monotonic()
    while True:
        load.stdin.write("\n")
        load.stdin.flush()
        cut, answers = json.loads(load.stdout.readline())
        recent = [answer for answer in answers if answer[0] > cut - 2]
        if len(recent) > 50 and time.monotonic() - began > 20:
            break
    load.stdin.close()
    _, answers = json.loads(load.stdout.readline())
    statuses = Counter(status for _, _, status in answers)
    print(statuses)
    assert statuses[0] == 0, statuses
    assert {said for _, said, status in answers if status == 200} == {"3"}
    assert {status for began, _, status in answers if began > cut - 2} == {200}
    served.terminate()
