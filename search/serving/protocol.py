"""HTTP/1.1 for uvicorn, with limits: slow and faulty clients get an error and are disconnected."""

import asyncio
import json
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from search.serving.limits import Limits, Refusal
from trainables.errors import printable

JSON_HEADERS = [(b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff")]
PIPELINED = 32
"""Maximum number of requests of a connection that wait for the response to an earlier one."""


class TooManyRequests(Exception):
    """More than `PIPELINED` requests wait on a connection."""


def error_text(text: str) -> str:
    """Encode an error as one line of JSON."""
    return json.dumps({"error": printable(text)}) + "\n"


def refusal_headers(refusal: Refusal) -> list[tuple[bytes, bytes]]:
    """Return the headers for a refusal: `Retry-After`, if a later request may succeed."""
    if refusal.retry_after_s is None:
        return []
    return [(b"retry-after", str(refusal.retry_after_s).encode())]


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol with limits on everything but the bodies of requests.

    It closes connections whose headers or trailers are too long, whose headers arrive too slowly,
    or whose clients do not read their responses. At the limit of connections, a new one replaces
    the longest idle one.
    """

    limits = Limits()
    _idle: dict["BoundedProtocol", None]
    """The server's connections without a request, the longest idle first. A dict serves as an
    ordered set; `protocol` creates it for each server.
    """
    _timer: asyncio.TimerHandle | None = None
    _lingering: asyncio.TimerHandle | None = None
    _sending: asyncio.TimerHandle | None = None
    _unsent_bytes: int | None = None
    """Number of bytes that waited for the client when `_sending` was started; None if more were
    written since then.
    """
    _is_in_header = True
    _is_in_body = False
    _header_bytes = 0
    """Number of bytes since the header began, or since the last piece of the body."""
    _has_progressed = False
    """True if the last received data completed a header, or contained a part of a body."""
    _refusal: Refusal | None = None
    """The refusal that ends the connection once the requests before it are answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a header. At the limit of connections, first close the longest idle one."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections and not self._close_idle():
            self._refuse(Refusal(503, "too many connections; try again in 1 s", 1))
            return
        self._idle[self] = None
        self._timer = self.loop.call_later(self.limits.receive_s, self._refuse_late_header)

    def _close_idle(self) -> bool:
        """Close the longest idle connection; return False if none is idle.

        A connection with unsent bytes is skipped: it would stay open until its client reads them.
        """
        idle = (
            connection
            for connection in self._idle
            if not connection.transport.get_write_buffer_size()
        )
        if (oldest := next(idle, None)) is None:
            return False
        del self._idle[oldest]
        oldest.transport.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel all timers."""
        self._stop_timer()
        self._stop_lingering()
        if self._sending is not None:
            self._sending.cancel()
        self._idle.pop(self, None)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Pause the app until the client has read, but disconnect a client that reads nothing."""
        super().pause_writing()
        self._watch_sending()

    def _watch_sending(self) -> None:
        """Schedule a check that the client has read a part of its response.

        Without this check, the connection of a client that reads nothing would stay open forever: a
        closed transport waits until everything is sent, and uvicorn has no timeout for that.
        """
        if self._sending is not None:
            self._unsent_bytes = None
        elif unsent := self.transport.get_write_buffer_size():
            self._unsent_bytes = unsent
            self._sending = self.loop.call_later(self.limits.send_s, self._check_sending)

    def _check_sending(self) -> None:
        """Close the connection if nothing was read or written since the last check."""
        self._sending = None
        if self.transport.get_write_buffer_size() == self._unsent_bytes:
            self.transport.abort()
        else:
            self._watch_sending()

    def data_received(self, data: bytes) -> None:
        """Parse the data, and enforce the limits of an incomplete header or trailer."""
        if self.transport.is_closing() or self._refusal is not None:
            return
        self._has_progressed = False
        self._unset_keepalive_if_required()
        self._parse(data)
        if self.transport.is_closing():
            return
        if not self._is_in_header:
            self._stop_timer()
        if not self._has_progressed:  # otherwise most of the data may belong to a body
            self._header_bytes += len(data)
        if self._header_bytes > self.limits.header_bytes:
            limit = f"{self.limits.header_bytes:,} bytes"
            self._refuse(Refusal(431, f"the header is too long (limit {limit})"))
        elif self._is_in_header and self._timer is None:
            self._timer = self.loop.call_later(self.limits.receive_s, self._refuse_late_header)

    def _parse(self, data: bytes) -> None:
        """Parse the data, and ignore an `Upgrade` to another protocol.

        A server may ignore `Upgrade` (RFC 9110, section 7.8). The parser stops after a header with
        `Upgrade`, since the other protocol would follow. Therefore, a new parser receives the
        header again, without `Upgrade`, and the data after it.
        """
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if self.scope["method"] == "CONNECT":
                    self.send_400_response("")
                    return
                data = self._without_upgrade() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            except httptools.HttpParserError as error:
                if isinstance(error.__context__, TooManyRequests):
                    self._refuse(
                        Refusal(503, "too many requests are waiting on this connection", 1)
                    )
                else:
                    self.send_400_response("")
                return

    def _without_upgrade(self) -> bytes:
        version = self.scope["http_version"].encode()
        lines = [self.scope["method"].encode() + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        """Note that the header of a request begins."""
        self._is_in_header, self._header_bytes = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a field of a header, and ignore a field of a trailer."""
        if self._is_in_header:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start to answer, unless the header has to be parsed again (see `_parse`)."""
        if self.parser.should_upgrade():
            self.scope["method"] = self.parser.get_method().decode("ascii")
            self.scope["http_version"] = self.parser.get_http_version()
            return
        if len(self.pipeline) >= PIPELINED:
            raise TooManyRequests
        self._is_in_header, self._is_in_body = False, True
        self._header_bytes, self._has_progressed = 0, True
        self._idle.pop(self, None)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass on a piece of a body to the application."""
        self._header_bytes, self._has_progressed = 0, True
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Send a postponed refusal, or read the rest of the request for a while.

        The rest is read because many clients send a whole request before they read the response.
        """
        if not self.pipeline:
            self._idle[self] = None
        self._watch_sending()
        super().on_response_complete()
        if self._refusal is not None and self.cycle.response_complete:
            self._refuse(self._refusal)
        elif self.cycle.more_body and self.cycle.response_complete and not self._lingering:
            self._lingering = self.loop.call_later(self.limits.receive_s, self.transport.close)

    def on_message_complete(self) -> None:
        """Note that a request is complete."""
        if self.parser.should_upgrade():
            return
        self._stop_lingering()
        self._is_in_body, self._has_progressed = False, True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Respond that the data is not HTTP/1.1, and close the connection."""
        self._refuse(Refusal(400, "this is not HTTP/1.1"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_lingering(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None

    def _refuse_late_header(self) -> None:
        self._timer = None
        self._refuse(Refusal(408, f"the header did not arrive within {self.limits.receive_s:g} s"))

    def _refuse(self, refusal: Refusal) -> None:
        """Respond with an error and close the connection, after earlier requests are answered."""
        if self.transport.is_closing():
            return
        if self._is_in_body and self.cycle.response_complete:
            self.transport.close()  # the client would take the error for its next response
            return
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering and (self.pipeline or not self.cycle.more_body):
            self._refusal = refusal
            return
        self.transport.write(_response(refusal))
        self._watch_sending()
        self.transport.close()


def protocol(limits: Limits) -> type[BoundedProtocol]:
    """Create the protocol class of a server with these limits."""
    return type("BoundedProtocol", (BoundedProtocol,), {"limits": limits, "_idle": {}})


def _response(refusal: Refusal) -> bytes:
    """Encode the response to a refused request, which closes the connection."""
    body = error_text(refusal.text).encode()
    headers: list[tuple[bytes, Any]] = [
        *JSON_HEADERS,
        *refusal_headers(refusal),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return STATUS_LINE[refusal.status] + lines + b"\r\n" + body
