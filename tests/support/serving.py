"""A server in a thread of this process, and requests to it."""

import asyncio
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import uvicorn

from search.serving.app import App
from search.serving.limits import Limits
from search.serving.metrics import Metrics
from search.serving.protocol import protocol
from search.serving.versions import Versions, load_version

BUSY_S = 600
"""How long a busy machine may take for what must come: a command's start takes it a minute."""


@dataclass(frozen=True)
class Answer:
    """What came of a request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    app: Any
    """The application, if it is in this process."""
    port: int

    def ask(
        self, path: str, body: bytes | None = None, kind: str | None = None, **headers: str
    ) -> Answer:
        """Send a request: a GET without a body, else a POST."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=BUSY_S)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if kind is not None:
            named["Content-Type"] = kind
        try:
            connection.request("GET" if body is None else "POST", path, body, named)
            found = connection.getresponse()
            told = {name.lower(): value for name, value in found.getheaders()}
            return Answer(found.status, told, found.read())
        finally:
            connection.close()

    def raw(self, *pieces: bytes) -> bytes:
        """Send bytes as they are, and return all that comes until the server ends it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=BUSY_S) as connection:
            for piece in pieces:
                connection.sendall(piece)
            found = b""
            while piece := connection.recv(65536):
                found += piece
            return found


@contextmanager
def running(
    folder: Path, *, limits: Limits | None = None, version: str = "1", **more: Any
) -> Iterator[Running]:
    """Serve the model in a folder for as long as a test needs it; `more` is as `App` takes it."""
    limits = limits or Limits()
    first = load_version(folder, "pets", version, threads=1, delay_s=0.05)
    metrics = more.pop("metrics", None) or Metrics()
    app = App("pets", Versions(first), limits, metrics, **more)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=protocol(limits),
            loop="uvloop",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            port=0,
        )
    )
    began = threading.Event()
    startup = server.startup

    async def telling(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets)
        began.set()

    server.startup = telling  # type: ignore[method-assign]
    loop_factory = server.config.get_loop_factory()
    thread = threading.Thread(
        target=lambda: asyncio.Runner(loop_factory=loop_factory).run(server.serve()), daemon=True
    )
    thread.start()
    assert began.wait(BUSY_S)
    try:
        yield Running(app, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(BUSY_S)
        assert not thread.is_alive()


def until(condition: Callable[[], bool], limit_s: float = BUSY_S) -> None:
    """Look often until the condition holds."""
    for _ in range(int(limit_s * 50)):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"waited {limit_s:g} seconds in vain")


@dataclass
class Commanded:
    """`python -m search.serve` as a user runs it, and what it has said."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    _has_stopped: bool = False

    def __post_init__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if self._has_stopped:
                self.process.stdout.close()
                return

    def stop_reading(self) -> None:
        """Close the pipe after the next line: what is printed then finds no reader."""
        self._has_stopped = True

    def said(self, words: str) -> str:
        """Wait for a line with these words."""

        def found() -> str:
            return next((line for line in self.lines if words in line), "")

        until(lambda: bool(found()) or self.process.poll() is not None)
        assert found(), f"'{words}' was not said: {self.lines}"
        return found()

    @property
    def running(self) -> Running:
        """Where it is asked."""
        port = re.search(r"at http://127\.0\.0\.1:(\d+)", self.said("serving "))
        assert port is not None
        return Running(None, int(port[1]))

    def answering(self) -> list[int]:
        """The processes that answer."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):  # it has just ended
                found += [child.pid] * ("search.serving.worker" in child.cmdline())
        return found


@contextmanager
def commanded(
    *words: object, port: int = 0, environment: dict[str, str] | None = None
) -> Iterator[Commanded]:
    """Run the command for as long as a test needs it."""
    made = subprocess.Popen(
        [sys.executable, "-m", "search.serve", *map(str, words), "--port", str(port)],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Commanded(made)
    finally:
        made.terminate()
        made.wait(BUSY_S)
        assert made.stdout is not None
        made.stdout.close()
