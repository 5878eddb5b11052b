"""A network that misbehaves, in front of an HTTP server."""

import http.client
import re
import select
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class Proxy:
    """Listens on a port of its own and passes each request on to `target`, as `mode` says at that
    moment.

    forward      as it came, after `delay` seconds
    drop_answer  POST requests whose path matches `dropped`: passed on, and the connection closed
                 instead of an answer, `drops` times
    refuse       the connection is closed before anything is passed on
    black_hole   the request is taken and nothing happens, until the mode is another: then the
                 connection is closed

    `requests` counts what came, by method and path. `held` are the requests in the black hole whose
    clients still wait. What `refusal` gives for a method and path, a status and a text, is answered
    before any of that. With `same_host` requests are passed on under the name that they came with,
    which an S3 client signs.
    """

    def __init__(self, target: str, *, same_host: bool = False) -> None:
        self.same_host, self.refused = same_host, 0
        self.refusal: Callable[[str, str], tuple[int, str] | None] = lambda method, path: None
        self.target, self.mode, self.delay = urlsplit(target), "forward", 0.0
        self.dropped, self.drops = "", 0
        self.requests: list[str] = []
        self.held: list[object] = []
        self._lock, self._ended = threading.Lock(), threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1
            """An answer leaves in one piece: in two, the second would wait for the first one's
            receipt, 40 ms.
            """

            def handle_one_request(self) -> None:
                """Read a request's head as usual, whatever its method."""
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                proxy.answer(self)

            def handle_expect_100(self) -> bool:
                """Let a client send what it asks to send; it waits for that."""
                answered = super().handle_expect_100()
                self.wfile.flush()
                return answered

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def drop_answers(self, path: str, times: int) -> None:
        """Lose the answers to the next POST requests whose path matches this pattern."""
        self.dropped, self.drops, self.mode = path, times, "drop_answer"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """One request."""
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        with self._lock:
            self.requests.append(f"{handler.command} {urlsplit(handler.path).path}")
            dropping = (
                self.mode == "drop_answer"
                and self.drops > 0
                and handler.command == "POST"
                and bool(re.search(self.dropped, handler.path))
            )
            self.drops -= dropping
        if (refusal := self.refusal(handler.command, handler.path)) is not None:
            self.refused += 1
            return self._send(
                handler, refusal[0], [("Content-Type", "application/xml")], refusal[1].encode()
            )
        if self.mode == "black_hole":
            self._hold(handler.connection)
            handler.close_connection = True
            return
        if self.mode == "refuse":
            handler.close_connection = True
            return
        time.sleep(self.delay)
        try:
            status, headers, content = self._ask(handler, body)
        except (OSError, http.client.HTTPException):
            handler.close_connection = True
            return
        if dropping:
            handler.close_connection = True
            return
        self._send(handler, status, headers, content)

    def _hold(self, connection: socket.socket) -> None:
        request = object()
        self.held.append(request)
        while self.mode == "black_hole" and not self._ended.wait(0.05):
            if select.select([connection], [], [], 0)[
                0
            ]:  # a client that waits says nothing: it has hung up
                break
        self.held.remove(request)

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        headers: list[tuple[str, str]],
        content: bytes,
    ) -> None:
        handler.send_response_only(status)
        for name, value in headers:
            if name.lower() not in HOP:
                handler.send_header(name, value)
        length = (
            next((value for name, value in headers if name.lower() == "content-length"), "0")
            if handler.command == "HEAD"
            else str(len(content))
        )
        handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(content if handler.command != "HEAD" else b"")
        handler.wfile.flush()

    def _ask(
        self, handler: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(
            self.target.hostname or "", self.target.port or 80, timeout=60
        )
        headers = {
            name: value
            for name, value in handler.headers.items()
            if name.lower() not in HOP | {"host", "expect"}
        }
        host = handler.headers["Host"] if self.same_host else self.target.netloc
        try:
            connection.request(handler.command, handler.path, body, {**headers, "Host": host})
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def close(self) -> None:
        """Stop listening."""
        self._ended.set()
        self.server.shutdown()
        self.server.server_close()
