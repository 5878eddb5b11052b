"""Requests to an ASGI application in this process, and such an application on a port."""

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import uvicorn
from starlette.types import ASGIApp, Message

from search.serving.limits import Limits
from search.serving.protocol import protocol
from tests.support.ports import free_port


@dataclass(frozen=True)
class Reply:
    """What an application has answered."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """Return the values."""
        return json.loads(self.content)


def ask(
    app: ASGIApp,
    method: str,
    path: str,
    body: bytes | dict[str, Any] = b"",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Return the answer to one request; the host is 127.0.0.1 unless `headers` name another."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"host": "127.0.0.1:8000", **(headers or {})}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path.partition("?")[0]),  # as servers do
        "raw_path": path.partition("?")[0].encode(),
        "query_string": path.partition("?")[2].encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 40_000),
        "server": ("127.0.0.1", 8000),
    }
    sent: list[Message] = []
    parts = iter([content])

    async def receive() -> Message:
        if (content := next(parts, None)) is None:  # it waits for the answer, and does not go away
            await asyncio.Event().wait()
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    start = sent[0]
    return Reply(
        start["status"],
        {name.decode(): value.decode() for name, value in start["headers"]},
        b"".join(message.get("body", b"") for message in sent[1:]),
    )


@contextmanager
def listening(app: ASGIApp, limits: Limits | None = None) -> Iterator[str]:
    """Run an application on a free port of this machine, in these limits; yield its address."""
    port = free_port()
    config = uvicorn.Config(app, port=port, ws="none", log_level="critical", lifespan="off")
    if limits is not None:
        config.http = protocol(limits)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive(), "the server did not start"
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
