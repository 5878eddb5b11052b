"""An hour of trouble in some seconds: more than it can bear, models that move, processes killed."""

import http.client
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.search.serving.test_serve import Registry
from tests.support.promoted import linear
from tests.support.serving import Answer, Commanded, Running, commanded, until

CLIENTS = 24
BAD = (b"no image", b"\x89PNG\r\n\x1a\nno more")


@dataclass
class Traffic:
    """Clients that ask without a pause, and all that they were answered."""

    server: Running
    image: bytes
    answers: list[tuple[bytes, Answer]] = field(default_factory=list)
    cut: int = 0
    """Connections that ended without an answer."""
    stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Traffic":
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for one in self._threads:
            one.join()

    def _ask(self) -> None:
        chance = random.Random(threading.get_ident())
        while not self.stop.is_set():
            body = chance.choice(BAD) if chance.random() < 0.1 else self.image
            try:
                self.answers.append((body, self.server.ask("/predict", body, "image/png")))
            except (http.client.HTTPException, OSError):
                self.cut += 1


@pytest.mark.slow(60)
def test_every_request_is_answered_by_the_version_that_it_names(
    database: str, tmp_path: Path, digits: list[bytes]
) -> None:
    """Version N says the class N. Those that are cut off are no more than a kill can have cut."""
    registry = Registry(database, tmp_path)
    registry.client = MlflowClient(database)
    moves: list[Callable[[], Path]] = [
        lambda: linear(tmp_path / "2", always=2),
        lambda: damaged(tmp_path / "3"),
        lambda: linear(tmp_path / "4", always=4),
        lambda: linear(tmp_path / "5", classes=("cat", "dog")),
        lambda: linear(tmp_path / "6", always=6),
    ]
    registry.add(linear(tmp_path / "1", always=1))
    kills = 0
    words = ["--tracking", database, "--poll", "0.2", "--workers", "2"]
    with commanded("models:/pets@champion", *words) as made:
        with Traffic(made.running, digits[0]) as traffic:
            for number, move in enumerate(moves, 2):
                before = len(traffic.answers)
                until(lambda count=before: len(traffic.answers) > count + 100)  # type: ignore[misc]
                registry.add(move())
                is_bad = number in (3, 5)
                made.said(f"version {number} is {'not used' if is_bad else 'in use now'}")
                kills += killed(made)
        last = made.running.ask("/predict", digits[0], "image/png")
        assert made.running.ask("/health").json["version"] == "6"
    assert last.json["predictions"][0]["class"] == "6"
    statuses = Counter((body in BAD, answer.status) for body, answer in traffic.answers)
    assert set(statuses) <= {(False, 200), (False, 503), (True, 422), (True, 503)}, statuses
    said = {
        (one["version"], one["class"])
        for _, answer in traffic.answers
        if answer.status == 200
        for one in answer.json["predictions"]
    }
    assert said <= {("1", "1"), ("2", "2"), ("4", "4"), ("6", "6")}
    assert len(said) >= 3
    assert traffic.cut <= kills * CLIENTS


def killed(made: Commanded) -> int:
    """Kill one of two processes, and wait until another has taken its place."""
    first, _ = made.answering()
    os.kill(first, signal.SIGKILL)
    until(lambda: first not in made.answering() and len(made.answering()) == 2)
    until(lambda: ready_in(made) >= 2)
    return 1


def ready_in(made: Commanded) -> float:
    """Return in how many processes a version is in use."""
    lines = made.running.ask("/metrics").body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("serving_version{"))


def damaged(folder: Path) -> Path:
    linear(folder)
    (folder / "model.onnx").write_bytes(b"no network")
    return folder
