"""HTTP as it is spoken with clients that are slow, or wrong: each gets an answer and its end."""

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from search.serving.limits import Limits, Refusal
from trainables.errors import printable

JSON_HEADERS = [(b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff")]


def error_text(text: str) -> str:
    """Return an error as JSON of one line."""
    return json.dumps({"error": printable(text)}) + "\n"


def headers_of(refusal: Refusal) -> list[tuple[bytes, bytes]]:
    """Return the headers that go with a refusal."""
    if refusal.retry_after_s is None:
        return []
    return [(b"retry-after", str(refusal.retry_after_s).encode())]


class Bounded(HttpToolsProtocol):
    """Uvicorn's protocol with bounds on what comes before a request's body.

    Connections whose headers are too long, or take too long, are ended.
    """

    limits = Limits()
    _timer: asyncio.TimerHandle | None = None
    _lingering: asyncio.TimerHandle | None = None
    _is_in_header = True
    _header_bytes = 0
    _has_completed = False
    """True if a request's end was in the bytes that came last."""
    _refusal: Refusal | None = None
    """The refusal that ends the connection once the requests before it are answered."""
    _began = 0.0
    _is_asked = False
    """True if a request's header has come: an app ends the connections of those it does not admit.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a header, in the place of a silent client if there is no other."""
        super().connection_made(transport)
        self._began = self.loop.time()
        if len(self.connections) > self.limits.connections:
            # Else whoever opens connections and stays silent would keep all others out.
            silent = [one for one in self._others() if not one._is_asked]
            refused = min(silent, key=lambda one: one._began, default=self)
            refused._refuse(Refusal(503, "too many connections; try again in 1 s", 1))
            if refused is self:
                return
        self._timer = self.loop.call_later(self.limits.receive_s, self._late)

    def _others(self) -> list["Bounded"]:
        """The other connections that are open."""
        return [
            one
            for one in self.connections
            if isinstance(one, Bounded) and one is not self and not one.transport.is_closing()
        ]

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop()
        self._linger_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and bound a header that is not whole."""
        if self.transport.is_closing() or self._refusal is not None:
            return
        self._has_completed = False
        super().data_received(data)
        if not self._is_in_header:
            self._stop()
            return
        if not self._has_completed:  # else most of them may be of the request before
            self._header_bytes += len(data)
        if self._header_bytes > self.limits.header_bytes:
            limit = f"{self.limits.header_bytes:,} bytes"
            self._refuse(Refusal(431, f"the header is too long (limit {limit})"))
        elif self._timer is None:
            self._timer = self.loop.call_later(self.limits.receive_s, self._late)

    def on_message_begin(self) -> None:
        """Begin a header."""
        self._is_in_header, self._header_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._is_in_header, self._is_asked = False, True
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Read the rest of what was refused for a while: many clients send it all first."""
        super().on_response_complete()
        if self._refusal is not None and self.cycle.response_complete:
            self._refuse(self._refusal)
        elif self.cycle.more_body and self.cycle.response_complete and not self._lingering:
            self._lingering = self.loop.call_later(self.limits.receive_s, self.transport.close)

    def on_message_complete(self) -> None:
        """End a request."""
        self._linger_no_more()
        self._has_completed = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Say that this is not HTTP, and end the connection."""
        self._refuse(Refusal(400, "this is not HTTP/1.1"))

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _linger_no_more(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None

    def _late(self) -> None:
        self._timer = None
        self._refuse(Refusal(408, f"the header did not arrive within {self.limits.receive_s:g} s"))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer and end the connection, after the requests that have arrived are answered."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and not (self.cycle.response_complete or self.cycle.more_body):
            self._refusal = refusal
            return
        self.transport.write(_whole(refusal))
        self.transport.close()


def protocol(limits: Limits) -> type[Bounded]:
    """Return the protocol with these bounds."""
    return type("Bounded", (Bounded,), {"limits": limits})


def _whole(refusal: Refusal) -> bytes:
    """Return a whole answer, after which the connection ends."""
    body = error_text(refusal.text).encode()
    headers: list[tuple[bytes, Any]] = [
        *JSON_HEADERS,
        *headers_of(refusal),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return STATUS_LINE[refusal.status] + lines + b"\r\n" + body
