"""The command as a user runs it: processes, versions that move, and the end."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from search.feedback.records import Records, RecordsInfo, image_name
from search.operations.serve import RecordingOptions
from tests.conftest import Command
from tests.support.promoted import linear
from tests.support.serving import BUSY_S, Answer, Commanded, Running, commanded, until

PNG = "image/png"


@pytest.fixture(scope="module")
def two(folder: Path) -> Iterator[Commanded]:
    """A server of two processes."""
    with commanded(folder, "--workers", "2") as made:
        yield made


def test_processes_share_an_address_and_their_figures(two: Commanded, digits: list[bytes]) -> None:
    server = two.running
    assert "by 2 processes" in two.said("serving ")
    for _ in range(10):
        assert server.ask("/predict", digits[0], PNG).status == 200
    version = server.ask("/version").json["version"]
    lines = (
        'serving_requests_total{path="/predict",status="200"} 10.0',
        f'serving_version{{engine="ONNX Runtime",version="{version}"}} 2.0',
    )
    # A request is counted after its answer was sent, maybe by the other process.
    until(lambda: all(line in server.ask("/metrics").body.decode() for line in lines))


def test_a_process_that_is_killed_is_started_again(two: Commanded, digits: list[bytes]) -> None:
    server, before = two.running, two.answering()
    os.kill(before[0], signal.SIGKILL)
    assert two.said("a process ended") == (
        "note: a process ended (SIGKILL); another one replaces it"
    )
    assert server.ask("/predict", digits[0], PNG).status == 200  # by the other
    until(lambda: len(set(two.answering()) - set(before)) == 1)
    assert before[1] in two.answering()


def test_sigterm_answers_what_has_arrived_and_ends_with_0(
    folder: Path, digits: list[bytes]
) -> None:
    with commanded(folder) as made:
        server = made.running
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(digits[0])}\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(f"{head}Content-Type: image/png\r\n\r\n".encode() + digits[0][:20])
            until(lambda: "queue_bytes 0.0" not in server.ask("/metrics").body.decode())
            made.process.send_signal(signal.SIGTERM)
            until(lambda: refused(server.port))
            connection.sendall(digits[0][20:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        assert made.process.wait(BUSY_S) == 0
        assert made.lines[1:] == []


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return True
    return False


class Registry:
    """A registered model whose alias a test moves."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.client, self.folder = MlflowClient(uri), folder
        self.client.create_registered_model("pets")

    def add(self, folder: Path, alias: str = "champion") -> str:
        made = self.client.create_model_version("pets", str(folder))
        self.client.set_registered_model_alias("pets", alias, str(made.version))
        return str(made.version)


@pytest.mark.slow(20)
def test_an_alias_that_moves_swaps_versions_without_a_failed_request(
    database: str, tmp_path: Path, digits: list[bytes]
) -> None:
    """Version N says the class N - 1; two versions cannot be used, and the one before stays."""
    registry = Registry(database, tmp_path)
    registry.add(linear(tmp_path / "0", always=0))
    registry.add(linear(tmp_path / "shadow", always=5), "candidate")
    words = ["--tracking", database, "--poll", "0.05", "--shadow", "candidate"]
    with commanded("models:/pets@champion", *words, "--shadow-share", "1") as made:
        server = made.running
        made.said("version 2 of the second model is in use now")
        answers, stop = list[Answer](), threading.Event()
        clients = [
            threading.Thread(target=ask_until, args=(stop, server, digits[0], answers))
            for _ in range(2)
        ]
        for client in clients:
            client.start()
        try:
            broken = linear(tmp_path / "broken", always=2)
            (broken / "model.onnx").write_bytes(b"no network")
            registry.add(broken)
            said = made.said("version 3 is not used: the model cannot be loaded")
            assert said.endswith("version 1 stays in use")
            registry.add(linear(tmp_path / "other", classes=("cat", "dog")))
            assert "its classes differ (without '0', '1', '2' and 7 more, with 'cat', 'dog')" in (
                made.said("version 4 is not used")
            )
            assert server.ask("/ready").json["refused"]["version"] == "4"
            registry.add(linear(tmp_path / "4", always=4))
            made.said("version 5 is in use now")
            until(lambda: answers[-1].json["predictions"][0]["version"] == "5")
        finally:
            stop.set()
            for client in clients:
                client.join()
        text = server.ask("/metrics").body.decode()
        told = server.ask("/health").json
    assert {answer.status for answer in answers} == {200}
    told_of = (answer.json["predictions"][0] for answer in answers)
    assert set(Counter((one["version"], one["class"]) for one in told_of)) == {
        ("1", "0"),
        ("5", "4"),
    }
    assert 'serving_swaps_total{outcome="refused"} 2.0' in text
    assert told["refused"] is None
    assert told["shadow"]["version"] == "2"
    assert told["shadow"]["images"] == told["shadow"]["differ"] > 0


def ask_until(stop: threading.Event, server: Running, image: bytes, answers: list[Answer]) -> None:
    while not stop.is_set():
        answers.append(server.ask("/predict", image, PNG))
        time.sleep(0)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["/nowhere"], "'/nowhere' is not the folder of a model, which contains"),
        (["MODEL", "--shadow", "x"], "--shadow requires a registered model"),
        (
            ["MODEL", "--port", "70000"],
            "a port must be a whole number from 0 to 65,535 (got '70000')",
        ),
        (["MODEL", "--record", __file__], "is a file. Pass a folder, or s3://BUCKET/PREFIX."),
        (
            ["MODEL", "--workers", "0"],
            "the number of processes must be a whole number from 1 to 256",
        ),
        (["MODEL", "--shadow-share", "2"], "expected a share above 0 and at most 1 (got '2')"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(
    folder: Path, call: Command, words: list[str], text: str
) -> None:
    done = call("search.serve", *(str(folder) if word == "MODEL" else word for word in words))
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr


def test_a_model_that_is_not_there_is_said(command: Command) -> None:
    done = command(
        "search.serve", "models:/pets@champion", "--tracking", "sqlite:///no.db", "--port", 0
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: there is no MLflow database at" in done.stderr


def test_a_port_that_is_taken_is_said(folder: Path, call: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = call("search.serve", folder, "--port", taken.getsockname()[1])
    assert done.returncode == 4
    assert "the server cannot listen on 127.0.0.1, port" in done.stderr


def test_a_damaged_model_is_said_and_nothing_is_served(tmp_path: Path, command: Command) -> None:
    folder = linear(tmp_path / "model")
    (folder / "model.onnx").write_bytes(b"no network")
    done = command("search.serve", folder, "--port", "0")
    assert done.returncode == 2
    assert "cannot be served: the model cannot be loaded" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_met_is_recorded_and_corrected(
    folder: Path, tmp_path: Path, digits: list[bytes]
) -> None:
    place = tmp_path / "met"
    words = ["--record", place, "--record-share", "1"]
    with commanded(folder, *words) as made:
        server = made.running
        (told,) = server.ask("/predict", digits[0], PNG).json["predictions"]
        body = json.dumps({"id": told["id"], "class": "7"}).encode()
        answer = server.ask("/corrections", body, "application/json")
        assert answer.status == 200, answer.body
        assert server.ask("/").status == 200
    records = Records.at(place)
    assert [one.id for one in records.read_answers()] == [told["id"]]
    assert [one.label for one in records.corrections().values()] == ["7"]
    assert records.image(image_name(digits[0])) == digits[0]


def test_a_place_that_holds_another_models_records_is_refused(
    folder: Path, tmp_path: Path, command: Command
) -> None:
    Records.at(tmp_path / "met").begin(RecordsInfo("another", ("a", "b")))
    done = command("search.serve", folder, "--record", tmp_path / "met", "--port", "0")
    assert done.returncode == 2
    assert "contains the records of 'another'" in done.stderr


def test_processes_that_die_are_replaced_where_nobody_reads_and_nothing_can_be_recorded(
    folder: Path, tmp_path: Path, digits: list[bytes]
) -> None:
    """The place for records has become a file, and the reader of stdout has left."""
    place = tmp_path / "met"
    with commanded(folder, "--record", place) as made:
        server, before = made.running, made.answering()
        assert server.ask("/predict", digits[0], PNG).status == 200
        assert server.ask("/ready").json["recording"]["problem"] is None
        made.stop_reading()
        until(lambda: server.ask("/ready").json["recording"]["written"] == 1)
        shutil.rmtree(place)
        place.write_text("in the way")
        for _ in range(2):
            os.kill(before[0], signal.SIGKILL)
            until(lambda gone=before: made.answering() not in ([], gone))  # type: ignore[misc]
            assert server.ask("/predict", digits[0], PNG).status == 200
            before = made.answering()
        until(lambda: bool(server.ask("/ready").json["recording"]["problem"]))
        assert b"serving_recording 0.0" in server.ask("/metrics").body
        place.unlink()
        until(lambda: server.ask("/ready").json["recording"]["problem"] is None)
        made.process.terminate()
        assert made.process.wait(BUSY_S) == 0
    assert len(list(Records.at(place).read_answers())) == 1


def test_strangers_have_a_bound_on_their_corrections_and_others_none(tmp_path: Path) -> None:
    options = RecordingOptions(record=tmp_path / "met", record_bytes=50_000_000)
    closed, is_open = options.recording(), replace(options, open_corrections=True).recording()
    assert closed is not None
    assert is_open == replace(closed, corrections=5000)
    assert closed.corrections is None


def test_a_server_and_its_processes_have_standard_streams_where_all_were_closed() -> None:
    """What such a process opened first would else be what libraries print into."""
    looking = "import os; [os.fstat(number) for number in range(3)]"
    code = (
        "import subprocess, sys; from search import serve; serve._open_standard_streams(); "
        f"sys.exit(subprocess.run([sys.executable, '-c', {looking!r}]).returncode)"
    )
    words = ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code]
    assert subprocess.run(words, timeout=BUSY_S).returncode == 0
