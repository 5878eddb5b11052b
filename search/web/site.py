"""The parts that all pages share: the storage of the searches, access, and templates.

A page builds its routes with `Site.shows`, `Site.hints` and `Site.changes`, which turn an exception
in an endpoint into a message on the page. A form that changes something must be posted with the
session's CSRF token.
"""

import asyncio
import functools
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from cluster.errors import NotReady, Refused
from search.journal.journal import JournalError
from search.journal.lease import LeaseHeld
from search.journal.store import Storage
from search.web.access import HEADERS, Access
from search.web.feed import Feed
from search.web.once import Once
from search.web.own_files import static_address
from trainables.errors import ConfigError, Unavailable, printable

RECEIVE_S = 15.0
"""Maximum seconds for receiving a form."""
MAX_BYTES = 200_000
"""Maximum size in bytes of a form without files."""
MAX_SHOWN = 200
"""Maximum number of characters that a page shows of an unexpected exception."""
LOG = logging.getLogger(__name__)
STATUS: dict[type[Exception], int] = {
    ConfigError: 400,
    JournalError: 404,
    LeaseHeld: 409,
    Refused: 409,
    NotReady: 503,
    Unavailable: 503,
    OSError: 503,
}
"""HTTP status of the response by the type of the exception."""
Endpoint = Callable[[Request], Awaitable[Response]]
Change = Callable[[Request, FormData], Coroutine[Any, Any, Response]]


class Page(Protocol):
    """The interface that each module of `pages/` implements."""

    @property
    def NAV(self) -> tuple[str, str] | None:
        """Title and path of the page's link on every page; None if it has no link."""

    def routes(self, site: "Site") -> list[BaseRoute]:
        """Build the routes of the page."""


@dataclass(frozen=True)
class Site:
    """The objects that all pages share."""

    place: Storage
    """Storage of the searches."""
    tracking: str
    """MLflow's tracking URI."""
    access: Access
    pages: Sequence[Page] = ()
    data_root: Path | None = None
    """The folder that must contain all folders of images that a form names; None allows any."""
    ending: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    """Functions that end the processes of pages; they are called when the server shuts down."""

    @functools.cached_property
    def feed(self) -> Feed:
        """The current state of the searches that open pages show."""
        return Feed(self.place)

    @functools.cached_property
    def once(self) -> Once:
        """The responses to recently sent forms, so that a form that is sent twice acts once."""
        return Once()

    def json(self, text: str) -> Response:
        """Build a response for a script from JSON text."""
        return Response(text, headers={**HEADERS, "Content-Type": "application/json"})

    def render(self, request: Request, template: str, status: int = 200, **facts: Any) -> Response:
        """Render a page, or a part of one, as a response.

        Args:
            request: the request.
            template: the name of a file in `templates/`.
            status: the HTTP status.
            facts: the variables of the template.
        """
        return HTMLResponse(self.text(template, request.url.path, **facts), status, HEADERS)

    def text(self, template: str, path: str = "", **facts: Any) -> str:
        """Render a page, or a part of one, as text.

        Args:
            template: the name of a file in `templates/`.
            path: the path of the page's URL, which marks the current page among the links.
            facts: further variables of the template.
        """
        return (
            _environment()
            .get_template(template)
            .render(
                nav=[page.NAV for page in self.pages if page.NAV],
                path=path,
                csrf=self.access.csrf,
                once=secrets.token_hex(8),
                place=str(self.place),
                **facts,
            )
        )

    def shows(self, path: str, endpoint: Endpoint) -> Route:
        """Build the GET route of a page or of a part of one; `path` is in Starlette's syntax."""
        return Route(path, self._answering(endpoint), methods=["GET"])

    def hints(self, path: str, endpoint: Endpoint) -> Route:
        """Build the GET route of a preview, which is requested while a form is filled in.

        htmx shows only successful responses. Therefore, a refusal has the status 200 for htmx, so
        that it is shown instead of the preview.
        """
        answering = self._answering(endpoint)

        async def hinted(request: Request) -> Response:
            answer = await answering(request)
            if "hx-request" in request.headers:
                answer.status_code = 200
            return answer

        return Route(path, hinted, methods=["GET"])

    def changes(self, path: str, endpoint: Change, limit: int = MAX_BYTES) -> Route:
        """Build the POST route of a form that changes something.

        Args:
            path: the path in Starlette's syntax.
            endpoint: performs the change; it receives the request and the form.
            limit: the maximum size of the form in bytes.
        """

        async def checked(request: Request) -> Response:
            form = await received(request, limit)
            try:
                csrf = form.get("csrf", "")
                if not (isinstance(csrf, str) and self.access.is_csrf(csrf)):
                    raise HTTPException(
                        403, "this form belongs to another session. Reload the page."
                    )
                path = request.url.path
                return await self.once.answer(path, form, lambda: endpoint(request, form))
            finally:
                await form.close()  # this also removes the uploaded files

        return Route(path, self._answering(checked), methods=["POST"])

    def _answering(self, endpoint: Endpoint) -> Endpoint:
        """Wrap an endpoint, so that an exception becomes a page with a message."""

        async def answering(request: Request) -> Response:
            try:
                return await endpoint(request)
            except HTTPException as refused:
                return self.refused(request, refused.status_code, refused.detail)
            except tuple(STATUS) as error:
                status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
                return self.refused(request, status, str(error))
            except Exception as error:
                # Any exception is possible, since pages show files that others may have written.
                LOG.exception("%s %s", request.method, request.url.path)
                summary = f"{type(error).__name__}: {error}".splitlines()[0][:MAX_SHOWN]
                text = (
                    f"this page cannot be shown ({summary}). The output of the server has the "
                    "details."
                )
                return self.refused(request, 500, text)

        return answering

    def refused(self, request: Request, status: int, text: str) -> Response:
        """Render an error message as a page or, for htmx, as a part of one."""
        part = "refused_part.html" if "hx-request" in request.headers else "refused.html"
        return self.render(request, part, status, text=text)


async def received(request: Request, limit: int) -> FormData:
    """Receive a posted form of at most `limit` bytes.

    Raises:
        HTTPException: the form is too large, arrives too slowly, or is incomplete.
    """
    too_large = f"the form is too large: at most {limit:,} bytes are accepted."
    if int(request.headers.get("content-length", "0") or 0) > limit:
        raise HTTPException(413, too_large)
    taken, receive = 0, request.receive

    async def bounded() -> Any:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise HTTPException(413, too_large)
        return message

    try:
        async with asyncio.timeout(RECEIVE_S):
            return await Request(request.scope, bounded).form(max_part_size=limit)
    except TimeoutError:
        raise HTTPException(
            408, f"the form did not arrive within {RECEIVE_S:g} s. Send it again."
        ) from None
    except ClientDisconnect:
        raise HTTPException(400, "the form arrived incomplete.") from None


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("search.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_readable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["static"] = static_address()
    environment.filters["clock"] = lambda time_ms: f"{_at(time_ms):%H:%M:%S} UTC"
    environment.filters["lines"] = _lines
    environment.filters["iso"] = lambda time_ms: _at(time_ms).isoformat()
    return environment


def _lines(text: str) -> Markup:
    """Remove control characters from a text, except for line breaks."""
    return Markup("\n").join(printable(line) for line in text.splitlines())


def _at(time_ms: float) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def _readable(value: object) -> object:
    """Remove control characters from a string that a template inserts."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
