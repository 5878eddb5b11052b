"""Connections whose clients do not read what they are sent."""

import socket
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.types import Receive, Scope, Send

from search.serving.limits import Limits
from search.serving.protocol import BoundedProtocol, protocol
from tests.support.asgi import listening

BYTES = 1 << 24
"""Bytes of an answer: more than the buffers of the system take."""


def app_of(pieces: int) -> Any:
    """Return an app that sends its answer in so many pieces."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(pieces):
            body = bytes(BYTES // pieces)
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


@pytest.mark.parametrize("kind", ["keep-alive", "close"])
@pytest.mark.parametrize("pieces", [1, 256])
def test_a_client_that_reads_nothing_keeps_no_connection(
    pieces: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the app still waits to send more, or is done, or the connection is closing."""
    lost, ended = BoundedProtocol.connection_lost, threading.Event()

    def connection_lost(self: BoundedProtocol, exc: Exception | None) -> None:
        lost(self, exc)
        ended.set()

    monkeypatch.setattr(BoundedProtocol, "connection_lost", connection_lost)
    with listening(app_of(pieces), Limits(send_s=0.05)) as address:
        host, port = urlsplit(address).netloc.split(":")
        with socket.create_connection((host, int(port))) as connection:
            request = f"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: {kind}\r\n\r\n"
            connection.sendall(request.encode())
            assert ended.wait(60)


class Sending:
    """A connection, with the bytes that its transport has still to send at each look."""

    def __init__(self, *unsent: int) -> None:
        self._unsent = iter(unsent)
        self.is_aborted = False
        self.checks = list[Callable[[], None]]()
        self.protocol: Any = object.__new__(protocol(Limits()))
        self.protocol.loop = SimpleNamespace(call_later=self._call_later)
        self.protocol.transport = self

    def _call_later(self, delay_s: float, check: Callable[[], None]) -> object:
        self.checks.append(check)
        return object()

    def get_write_buffer_size(self) -> int:
        return next(self._unsent)

    def abort(self) -> None:
        self.is_aborted = True

    def check(self) -> None:
        self.checks.pop()()


def test_a_client_that_reads_slowly_is_waited_for() -> None:
    slow = Sending(100, 60, 60, 0, 0)
    BoundedProtocol._watch_sending(slow.protocol)
    for _ in range(2):
        slow.check()
    assert not slow.is_aborted
    assert not slow.checks  # nothing is left to send


def test_what_is_written_meanwhile_is_not_taken_for_what_was_not_read() -> None:
    equal = Sending(100, 100, 100, 100)
    BoundedProtocol._watch_sending(equal.protocol)
    BoundedProtocol._watch_sending(
        equal.protocol
    )  # the first answer was read, and an equal one follows
    equal.check()
    assert not equal.is_aborted
    equal.check()
    assert equal.is_aborted
