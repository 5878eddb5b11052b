"""Routes and responses for the server's pages. Requests from pages of other sites are refused.

Browsers send the origin of the page that makes a request. Other programs send no origin, and are
allowed. Requests that address the server by another host name than its own are refused too, as a
protection against DNS rebinding.
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
"""The host names of a server that only its own machine can reach."""
RECEIVE_S = 15.0
"""Seconds within which the body of a request has to arrive."""
ORIGIN_HEADERS = frozenset({b"host", b"origin", b"sec-fetch-site"})
"""Headers that contain the site that makes a request, and the host name that it addresses."""
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
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
    """Return the host names by which clients may address a server that listens at `host`.

    None means that any name is allowed, since other machines can reach the server.
    """
    try:
        is_own = ip_address(host).is_loopback
    except ValueError:
        is_own = host in LOOPBACK
    return LOOPBACK | {host} if is_own else None


class SameOrigin:
    """ASGI middleware that refuses requests that a browser sends for a page of another site."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None = None) -> None:
        """Wrap an application.

        Args:
            app: answers the requests that are not refused.
            hosts: the host names by which this server may be addressed; None allows any.
        """
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it to the application."""
        reason = refusal(scope, self.hosts) if scope["type"] == "http" else ""
        app = error_response(403, reason) if reason else self.app
        await app(scope, receive, send)


def refusal(scope: Scope, hosts: Collection[str] | None) -> str:
    """Describe why a request is refused; empty if it is allowed.

    Args:
        scope: the ASGI scope of the request.
        hosts: the host names by which the server may be addressed; None allows any.
    """
    headers = {name: value for name, value in scope["headers"] if name in ORIGIN_HEADERS}
    host = headers.get(b"host", b"").decode("latin-1")
    if hosts is not None and _host_name(f"//{host}") not in hosts:
        names = " or ".join(sorted(hosts))
        return f"'{host[:200]}' is not a host name of this server. Use {names}."
    if scope["method"] in SAFE_METHODS:
        return ""
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    is_own = (
        site in (b"same-origin", b"none")
        if site is not None
        else origin is None or origin.partition(b"//")[2] == headers.get(b"host", b"")
    )
    return (
        "" if is_own else "cross-site request refused: use this server's own pages, or a program."
    )


@lru_cache(maxsize=64)
def _host_name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def error_response(status: int, text: str) -> JSONResponse:
    """Build a JSON response that contains an error in one line of text."""
    return JSONResponse({"error": printable(text)}, status, HEADERS)


def json_response(values: Any) -> JSONResponse:
    """Build a JSON response that browsers do not cache and other sites cannot use (`HEADERS`)."""
    return JSONResponse(values, headers=HEADERS)


class BodyMemory:
    """A common limit for the memory of the bodies of concurrent requests."""

    def __init__(self, size: int) -> None:
        """Start with `size` free bytes."""
        self._free_bytes = size

    @contextmanager
    def reserve(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that reserves a number of bytes; release all reservations on exit.

        The function raises HTTPException (503) if too few bytes are free.
        """
        taken_bytes = 0

        def take(size: int) -> None:
            nonlocal taken_bytes
            if size > self._free_bytes:
                raise HTTPException(
                    503, "the server is reading too many requests. Try again in a moment."
                )
            self._free_bytes -= size
            taken_bytes += size

        try:
            yield take
        finally:
            self._free_bytes += taken_bytes


async def read_fields(
    request: Request, limit: int, hint: str, take: Callable[[int], None] = lambda _: None
) -> dict[str, str]:
    """Read a JSON object, whose values have to be strings, from the body of a request.

    Args:
        request: the request.
        limit: the maximum size of the body, in bytes.
        hint: the error message if the body is not such an object; it describes the expected one.
        take: called with the size of each piece of the body in bytes, before the piece is stored.

    Raises:
        HTTPException: the body is not such an object, is too large, or arrives too slowly.
    """
    content = bytearray()
    try:
        async with asyncio.timeout(RECEIVE_S):
            async for piece in request.stream():
                take(len(piece))
                content += piece
                if len(content) > limit:
                    raise HTTPException(413, f"the body must have at most {limit:,} bytes.")
        values = await run_in_threadpool(json.loads, bytes(content))
    except TimeoutError:
        raise HTTPException(
            408, f"the body of the request did not arrive within {RECEIVE_S:g} s."
        ) from None
    except (ValueError, RecursionError):
        raise HTTPException(400, hint) from None
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise HTTPException(400, hint)
    return values


@cache
def text_of(name: str) -> str:
    """Read a text file in this folder; the result is cached."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def page(name: str, facts: dict[str, Any]) -> Response:
    """Build an HTML response from a file in this folder.

    Args:
        name: the name of the file.
        facts: JSON-compatible data for the script of the page. All text from outside is in here.
    """
    # Without `<`, the facts cannot end their script element or begin a comment in it.
    text = json.dumps(facts).replace("<", "\\u003c")
    content = text_of(name).replace("{{ facts }}", text)
    return Response(content, headers={**HEADERS, "Content-Type": "text/html; charset=utf-8"})


def own_files(*names: str) -> Route:
    """Build the route `/page/NAME` for the scripts and styles with these names."""

    async def send(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in names:
            return error_response(404, "this file does not exist.")
        kind = f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8"
        return Response(text_of(name), headers={**HEADERS, "Content-Type": kind})

    return Route("/page/{name}", send)


def guarded_route(
    path: str, method: str, endpoint: Endpoint, hosts: Collection[str] | None
) -> Route:
    """Build a route that pages of other sites cannot use, and whose errors are a line of JSON.

    Args:
        path: the path in Starlette's form.
        method: the HTTP method.
        endpoint: answers; its HTTPException, ConfigError and OSError become error responses.
        hosts: the host names by which the server may be addressed; None allows any.
    """

    async def respond(request: Request) -> Response:
        try:
            return await endpoint(request)
        except HTTPException as error:
            return error_response(error.status_code, error.detail)
        except NotRecorded as error:
            return error_response(404, str(error))
        except RecordsFull as error:
            return error_response(507, str(error))
        except ConfigError as error:
            return error_response(400, str(error))
        except OSError as error:
            return error_response(503, f"the storage failed, try again: {error.strerror or error}")

    guard = Middleware(SameOrigin, hosts=hosts)
    return Route(path, respond, methods=[method], middleware=[guard])
