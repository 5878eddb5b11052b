"""An S3 in memory that is wrong in one way, as services are that speak most of its language."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

FAULTS = {
    "ignores If-None-Match": r"lets two drivers overwrite each other \(If-None-Match is ignored\)",
    "ignores If-Match": r"lets two drivers overwrite each other \(If-Match is ignored\)",
    "makes anew by If-Match": r"accepts a replacement of a removed object \(If-Match is ignored\)",
    "refuses If-Match": r"refuses to replace an object whose tag matches \(If-Match\)",
    "has one tag for all": r"has the same tag for different contents of an object",
    "reads what was before": r"does not return the new content of a replaced object immediately",
    "loses what is new": r"does not return the content that was written to it",
    "lists late": r"does not list a new object immediately",
    "keeps what is removed": r"still returns a removed object",
    "lists what is removed": r"still lists a removed object",
}
"""The faults, each with the message that must report it."""
REFUSALS = {
    "may not put": ("s3:PutObject", "writable"),
    "may not get": ("s3:GetObject", "readable"),
    "may not list": ("s3:ListBucket", "listable"),
    "may not delete": ("s3:DeleteObject", "deletable"),
}
"""The forbidden operations, each with its permission and the adjective for a bucket that allows it.
"""


class Store:
    """The objects of one bucket, each with all its contents, and the bucket's fault."""

    def __init__(self, fault: str) -> None:
        assert not fault or fault in FAULTS or fault in REFUSALS
        self.fault = fault
        self.objects: dict[str, list[bytes]] = {}
        self.removed: set[str] = set()
        self.lock = threading.Lock()

    def tag(self, content: bytes) -> str:
        """Return the tag, which changes with the content."""
        return (
            '"1"'
            if self.fault == "has one tag for all"
            else f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        )

    def put(self, key: str, content: bytes, none_match: str, match: str) -> int:
        """Store an object under its conditions; return the status."""
        there = self.objects.get(key)
        if none_match and there and self.fault != "ignores If-None-Match":
            return 412
        if match and not there:
            if self.fault != "makes anew by If-Match":
                return 404
        elif (
            match
            and there
            and self.fault != "ignores If-Match"
            and (match != self.tag(there[-1]) or self.fault == "refuses If-Match")
        ):
            return 412
        self.objects.setdefault(key, []).append(content)
        return 200

    def get(self, key: str) -> bytes | None:
        """Return the content that is shown under this name."""
        contents = self.objects.get(key)
        if not contents or self.fault == "loses what is new":
            return None
        return (
            contents[-2]
            if self.fault == "reads what was before" and len(contents) > 1
            else contents[-1]
        )

    def remove(self, key: str) -> None:
        """Remove it."""
        if self.fault != "keeps what is removed":
            self.objects.pop(key, None)
        self.removed.add(key)

    def listing(self, prefix: str) -> list[str]:
        """Return the names that are listed."""
        names = [] if self.fault == "lists late" else list(self.objects)
        names += self.removed if self.fault == "lists what is removed" else ()
        return sorted({name for name in names if name.startswith(prefix)})


class Requests(BaseHTTPRequestHandler):
    """Answers requests to a store."""

    store: Store
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def handle_expect_100(self) -> bool:
        """Let the client send the content."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def answer(self) -> None:
        """Answer one request, of whatever kind."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        key = unquote(parts.path).partition("/")[2].partition("/")[2]
        query = parse_qs(parts.query, keep_blank_values=True)
        with self.store.lock:
            status, said, tag = self.do(key, query, body)
        self.send_response(status)
        if tag:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def do(self, key: str, query: dict[str, list[str]], body: bytes) -> tuple[int, bytes, str]:
        """Return the status, the content, and a tag."""
        if self.store.fault == f"may not {_name(self.command, query)}":
            return 403, _error("AccessDenied"), ""
        if self.command == "PUT":
            status = self.store.put(
                key,
                body,
                self.headers.get("If-None-Match", ""),
                self.headers.get("If-Match", ""),
            )
            refusal = {404: "NoSuchKey", 412: "PreconditionFailed"}
            return (
                (status, b"", self.store.tag(body))
                if status == 200
                else (status, _error(refusal[status]), "")
            )
        if self.command == "POST" and "delete" in query:
            for name in re.findall(rb"<Key>(.*?)</Key>", body):
                self.store.remove(name.decode())
            return 200, b"<DeleteResult/>", ""
        if "list-type" in query:
            names = self.store.listing(query.get("prefix", [""])[0])
            found = "".join(
                f"<Contents><Key>{name}</Key><ETag>x</ETag></Contents>" for name in names
            )
            return (
                200,
                f"<ListBucketResult><KeyCount>{len(names)}</KeyCount>{found}</ListBucketResult>".encode(),
                "",
            )
        content = self.store.get(key)
        return (
            (404, _error("NoSuchKey"), "")
            if content is None
            else (200, content, self.store.tag(content))
        )

    do_GET = do_PUT = do_POST = answer

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@contextmanager
def stand_in(fault: str = "") -> Iterator[tuple[str, Store]]:
    """Run a server with that fault; yield its address and its store."""

    class Handler(Requests):
        store = Store(fault)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", Handler.store
        server.shutdown()


def _name(method: str, query: dict[str, list[str]]) -> str:
    """Return the name of a request in `REFUSALS`."""
    if method == "POST" and "delete" in query:
        return "delete"
    return "list" if "list-type" in query else method.lower()


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code></Error>".encode()
