"""The answers to a page and its calls, for those who may have them: its own pages, and programs.

A browser says where a page comes from that sends something; one of another site is refused, and so
is one whose name leads here although it is not this server's (DNS rebinding).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib.resources import files
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from search.feedback.bounded import RecordsFull
from search.feedback.records import NotRecorded
from trainables.errors import ConfigError, printable

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""The names of a server that only its own machine reaches."""
RECEIVE_S = 15.0
"""Seconds within which a body has to arrive."""
ASKED = frozenset({b"host", b"origin", b"sec-fetch-site"})
"""The headers that tell who asks, and by which name."""
READING = {"GET", "HEAD", "OPTIONS"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Endpoint = Callable[[Request], Awaitable[Response]]
TYPES = {"js": "text/javascript", "css": "text/css"}


def allowed_hosts(host: str) -> frozenset[str] | None:
    """Return the names by which a server that listens there may be called; None allows any."""
    try:
        is_own = ip_address(host).is_loopback
    except ValueError:
        is_own = host in LOOPBACK
    return LOOPBACK | {host} if is_own else None


class SameOrigin:
    """Refuses requests that another site's page has made a browser send."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None = None) -> None:
        """Stand before an app.

        Args:
            app: what answers the others.
            hosts: the names by which this server may be called; None allows any.
        """
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the app answer."""
        refused = refusal(scope, self.hosts) if scope["type"] == "http" else ""
        answer = error(403, refused) if refused else self.app
        await answer(scope, receive, send)


def refusal(scope: Scope, hosts: Collection[str] | None) -> str:
    """Return why a request is refused; empty if it is not."""
    headers = {name: value for name, value in scope["headers"] if name in ASKED}
    host = headers.get(b"host", b"").decode("latin-1")
    if hosts is not None and _name(f"//{host}") not in hosts:
        return f"this server is not '{host[:200]}'. Call it by {' or '.join(sorted(hosts))}."
    if scope["method"] in READING:
        return ""
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    is_own = (
        site in (b"same-origin", b"none")
        if site is not None
        else origin is None or origin.partition(b"//")[2] == headers.get(b"host", b"")
    )
    return "" if is_own else "only this server's own pages and programs may send that."


@lru_cache(maxsize=64)
def _name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def error(status: int, text: str) -> JSONResponse:
    """Return an answer that says in one line what is wrong."""
    return JSONResponse({"error": printable(text)}, status, HEADERS)


def answer(told: Any) -> JSONResponse:
    """Return an answer with values."""
    return JSONResponse(told, headers=HEADERS)


class Room:
    """The memory that the bodies of requests may take together."""

    def __init__(self, size: int) -> None:
        """Have room for this number of bytes."""
        self._free = size

    @contextmanager
    def reserved(self) -> Iterator[Callable[[int], None]]:
        """Provide a function that takes bytes as they arrive; all are given back at the end.

        That raises HTTPException if there is no more room.
        """
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size > self._free:
                raise HTTPException(503, "too much is being read; try again in a moment.")
            self._free -= size
            taken += size

        try:
            yield take
        finally:
            self._free += taken


async def fields(
    request: Request, limit: int, wanted: str, take: Callable[[int], None] = lambda _: None
) -> dict[str, str]:
    """Return the fields of a JSON object whose values are text.

    Args:
        request: with the object as its body.
        limit: the bytes that it may have.
        wanted: what it should be, in words.
        take: is called with the number of bytes that have arrived, before they are kept.

    Raises:
        HTTPException: it is something else, too large or too slow.
    """
    content = bytearray()
    try:
        async with asyncio.timeout(RECEIVE_S):
            async for piece in request.stream():
                take(len(piece))
                content += piece
                if len(content) > limit:
                    raise HTTPException(413, f"at most {limit:,} bytes are taken.")
        told = await run_in_threadpool(json.loads, bytes(content))
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {RECEIVE_S:g} s.") from None
    except (ValueError, RecursionError):
        raise HTTPException(400, wanted) from None
    if not isinstance(told, dict) or not all(isinstance(value, str) for value in told.values()):
        raise HTTPException(400, wanted)
    return told


@cache
def text_of(name: str) -> str:
    """Return the text of a file beside this one."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def page(name: str, facts: dict[str, Any]) -> Response:
    """Return a page from the file of this name; its script reads the facts from it.

    They are the only thing in it that comes from outside.
    """
    # No `<` can end the element or begin a comment in it.
    told = json.dumps(facts).replace("<", "\\u003c")
    content = text_of(name).replace("{{ facts }}", told)
    return Response(content, headers={**HEADERS, "Content-Type": "text/html; charset=utf-8"})


def own_files(*names: str) -> Route:
    """Return the route `/page/NAME` of these files, which pages ask for."""

    async def send(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in names:
            return error(404, "there is no such file.")
        kind = f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8"
        return Response(text_of(name), headers={**HEADERS, "Content-Type": kind})

    return Route("/page/{name}", send)


def guarded(path: str, method: str, endpoint: Endpoint, hosts: Collection[str] | None) -> Route:
    """Return a route that other sites' pages cannot use, and whose refusals are lines.

    Args:
        path: as Starlette has it.
        method: the one that it takes.
        endpoint: answers, or raises what one may.
        hosts: the names by which the server may be called; None allows any.
    """

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except HTTPException as refused:
            return error(refused.status_code, refused.detail)
        except NotRecorded as refused:
            return error(404, str(refused))
        except RecordsFull as refused:
            return error(507, str(refused))
        except ConfigError as refused:
            return error(400, str(refused))
        except OSError as refused:
            return error(503, f"the storage refuses, try again: {refused.strerror or refused}")

    guard = Middleware(SameOrigin, hosts=hosts)
    return Route(path, answered, methods=[method], middleware=[guard])
