"""HTTP as it is spoken with clients that are slow, or wrong: each gets an answer and its end."""

import asyncio
import json
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from search.serving.limits import Limits, Refusal
from trainables.errors import printable

JSON_HEADERS = [(b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff")]
PIPELINED = 32
"""The most requests of one connection that wait for the one before them."""


class TooManyRequests(Exception):
    """A connection has sent more requests than may wait."""


def error_text(text: str) -> str:
    """Return an error as JSON of one line."""
    return json.dumps({"error": printable(text)}) + "\n"


def headers_of(refusal: Refusal) -> list[tuple[bytes, bytes]]:
    """Return the headers that go with a refusal."""
    if refusal.retry_after_s is None:
        return []
    return [(b"retry-after", str(refusal.retry_after_s).encode())]


class Bounded(HttpToolsProtocol):
    """Uvicorn's protocol with bounds on all that is not a request's body.

    Connections are ended whose headers or trailers are too long, whose headers take too long, or
    whose clients do not read what is sent to them. Where there are as many connections as there may
    be, the one that has been idle for longest makes room for a new one.
    """

    limits = Limits()
    _idle: dict["Bounded", None]
    """The server's connections without a request, the one that has been idle for longest first."""
    _timer: asyncio.TimerHandle | None = None
    _lingering: asyncio.TimerHandle | None = None
    _sending: asyncio.TimerHandle | None = None
    _unsent_bytes: int | None = None
    """The bytes that waited for the client when `_sending` was started; None if more were written
    since then.
    """
    _is_in_header = True
    _is_in_body = False
    _header_bytes = 0
    """The bytes since the header began; after it, those since the last piece of the body."""
    _has_progressed = False
    """True if the end of a header, a piece of a body or its end was in the bytes that came last."""
    _refusal: Refusal | None = None
    """The refusal that ends the connection once the requests before it are answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a header; at the limit, in the place of the longest idle client."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections and not self._close_idle():
            self._refuse(Refusal(503, "too many connections; try again in 1 s", 1))
            return
        self._idle[self] = None
        self._timer = self.loop.call_later(self.limits.receive_s, self._late)

    def _close_idle(self) -> bool:
        """Close the connection that has been idle for longest; return False if none is idle.

        One that still sends an answer would not be closed before its client has read that.
        """
        idle = (one for one in self._idle if not one.transport.get_write_buffer_size())
        if (oldest := next(idle, None)) is None:
            return False
        del self._idle[oldest]
        oldest.transport.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop()
        self._linger_no_more()
        if self._sending is not None:
            self._sending.cancel()
        self._idle.pop(self, None)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Let the app wait until the client has read; not for a client that reads nothing."""
        super().pause_writing()
        self._watch_sending()

    def _watch_sending(self) -> None:
        """Check later whether the client has read some of what waits for it.

        Without this check the connection of a client that reads nothing has no end: a transport
        that is closed waits until everything is sent, and uvicorn has no timeout for that.
        """
        if self._sending is not None:
            self._unsent_bytes = None
        elif unsent := self.transport.get_write_buffer_size():
            self._unsent_bytes = unsent
            self._sending = self.loop.call_later(self.limits.send_s, self._check_sending)

    def _check_sending(self) -> None:
        """End the connection if nothing was read, nor written, since the last check."""
        self._sending = None
        if self.transport.get_write_buffer_size() == self._unsent_bytes:
            self.transport.abort()
        else:
            self._watch_sending()

    def data_received(self, data: bytes) -> None:
        """Parse what came, and bound a header, or trailers, that are not whole."""
        if self.transport.is_closing() or self._refusal is not None:
            return
        self._has_progressed = False
        self._unset_keepalive_if_required()
        self._parse(data)
        if self.transport.is_closing():
            return
        if not self._is_in_header:
            self._stop()
        if not self._has_progressed:  # else most of them may be of what came before
            self._header_bytes += len(data)
        if self._header_bytes > self.limits.header_bytes:
            limit = f"{self.limits.header_bytes:,} bytes"
            self._refuse(Refusal(431, f"the header is too long (limit {limit})"))
        elif self._is_in_header and self._timer is None:
            self._timer = self.loop.call_later(self.limits.receive_s, self._late)

    def _parse(self, data: bytes) -> None:
        """Parse what came, and ignore that a client would rather speak another protocol.

        A server may do so (RFC 9110, section 7.8). The parser takes what follows such a header for
        the other protocol, so another one is given the header again without its `Upgrade`.
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
                    self._refuse(Refusal(503, "too many requests wait on this connection", 1))
                else:
                    self.send_400_response("")
                return

    def _without_upgrade(self) -> bytes:
        """Return the header that has just been parsed, without its `Upgrade`."""
        version = self.scope["http_version"].encode()
        lines = [self.scope["method"].encode() + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        """Begin a header."""
        self._is_in_header, self._header_bytes = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a line of a header; of a trailer, which nothing here reads, none."""
        if self._is_in_header:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the header is to be parsed again (see `_parse`)."""
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
        """Take a piece of a body."""
        self._header_bytes, self._has_progressed = 0, True
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Read the rest of what was refused for a while: many clients send it all first."""
        if not self.pipeline:
            self._idle[self] = None
        self._watch_sending()
        super().on_response_complete()
        if self._refusal is not None and self.cycle.response_complete:
            self._refuse(self._refusal)
        elif self.cycle.more_body and self.cycle.response_complete and not self._lingering:
            self._lingering = self.loop.call_later(self.limits.receive_s, self.transport.close)

    def on_message_complete(self) -> None:
        """End a request."""
        if self.parser.should_upgrade():
            return
        self._linger_no_more()
        self._is_in_body, self._has_progressed = False, True
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
        if self._is_in_body and self.cycle.response_complete:
            self.transport.close()  # a second answer would be taken for that to the next request
            return
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering and (self.pipeline or not self.cycle.more_body):
            self._refusal = refusal
            return
        self.transport.write(_whole(refusal))
        self._watch_sending()
        self.transport.close()


def protocol(limits: Limits) -> type[Bounded]:
    """Return the protocol with these bounds."""
    return type("Bounded", (Bounded,), {"limits": limits, "_idle": {}})


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
