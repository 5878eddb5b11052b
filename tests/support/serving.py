"""A server in a thread of this process, and requests to it."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from search.serving.app import App
from search.serving.limits import Limits
from search.serving.metrics import Metrics
from search.serving.protocol import protocol
from search.serving.versions import Versions, ready


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

    app: App
    port: int

    def ask(
        self, path: str, body: bytes | None = None, kind: str | None = None, **headers: str
    ) -> Answer:
        """Send a request: a GET without a body, else a POST."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
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
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
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
    first = ready(folder, "pets", version, threads=1, delay_s=0.05)
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
    assert began.wait(30)
    try:
        yield Running(app, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
