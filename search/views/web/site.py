"""The parts that every page has: the place of the searches, access, and the look.

A page's routes are made by `Site.shows` and `Site.changes`, which turn what an endpoint raises into
a line on the page; a change is a form that is posted with the session's CSRF token.
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
from search.views.web.access import HEADERS, Access
from search.views.web.feed import Feed
from search.views.web.once import Once
from search.views.web.own_files import static_address
from trainables.errors import ConfigError, Unavailable, printable

RECEIVE_S = 15.0
"""Seconds within which a form has to arrive."""
MAX_BYTES = 200_000
"""The bytes of a form without files."""
MAX_SHOWN = 200
"""The most characters of an unexpected exception that a page shows."""
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
"""The status of an answer that says why it is none, by what was raised."""
Endpoint = Callable[[Request], Awaitable[Response]]
Change = Callable[[Request, FormData], Coroutine[Any, Any, Response]]


class Page(Protocol):
    """A module of `pages/`."""

    @property
    def NAV(self) -> tuple[str, str] | None:
        """The title and the path of its link on every page; None where it has none."""

    def routes(self, site: "Site") -> list[BaseRoute]:
        """Return its routes, made by `site`."""


@dataclass(frozen=True)
class Site:
    """The parts that every page has."""

    place: Storage
    """Where searches are kept."""
    tracking: str
    """MLflow's tracking URI."""
    access: Access
    pages: Sequence[Page] = ()
    data_root: Path | None = None
    """Below which folders of images may lie that a form names; None allows any."""
    ending: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    """What pages have to end with the server: processes that answer them."""

    @functools.cached_property
    def feed(self) -> Feed:
        """The searches that are looked at."""
        return Feed(self.place)

    @functools.cached_property
    def once(self) -> Once:
        """The forms that were sent."""
        return Once()

    def json(self, text: str) -> Response:
        """Return an answer that is JSON, for a script."""
        return Response(text, headers={**HEADERS, "Content-Type": "application/json"})

    def render(self, request: Request, template: str, status: int = 200, **facts: Any) -> Response:
        """Return a page, or a part of one, made of a template in `templates/`."""
        return HTMLResponse(self.text(template, request.url.path, **facts), status, HEADERS)

    def text(self, template: str, path: str = "", **facts: Any) -> str:
        """Return the text of a page, whose address has this path, or of a part of one."""
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
        """Return the route of something to see; `path` is as Starlette has it."""
        return Route(path, self._answering(endpoint), methods=["GET"])

    def hints(self, path: str, endpoint: Endpoint) -> Route:
        """Return the route of what a form would come to, asked for while it is filled in.

        A refusal is no error there, but a line in its place.
        """
        answering = self._answering(endpoint)

        async def hinted(request: Request) -> Response:
            answer = await answering(request)
            if "hx-request" in request.headers:
                answer.status_code = 200
            return answer

        return Route(path, hinted, methods=["GET"])

    def changes(self, path: str, endpoint: Change, limit: int = MAX_BYTES) -> Route:
        """Return the route of a form that changes something, of so many bytes at most."""

        async def checked(request: Request) -> Response:
            form = await received(request, limit)
            try:
                given = form.get("csrf", "")
                if not (isinstance(given, str) and self.access.is_csrf(given)):
                    raise HTTPException(
                        403, "this form is not of this session: load the page anew."
                    )
                path = request.url.path
                return await self.once.answer(path, form, lambda: endpoint(request, form))
            finally:
                await form.close()  # the files that came with it

        return Route(path, self._answering(checked), methods=["POST"])

    def _answering(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint that answers with a line where one raises."""

        async def answered(request: Request) -> Response:
            try:
                return await endpoint(request)
            except HTTPException as refused:
                return self.refused(request, refused.status_code, refused.detail)
            except tuple(STATUS) as error:
                status = next(STATUS[made] for made in type(error).__mro__ if made in STATUS)
                return self.refused(request, status, str(error))
            except Exception as error:
                # What a page shows comes from files that others may have written.
                LOG.exception("%s %s", request.method, request.url.path)
                told = f"{type(error).__name__}: {error}".splitlines()[0][:MAX_SHOWN]
                text = f"this page cannot be made ({told}). The server's output has the details."
                return self.refused(request, 500, text)

        return answered

    def refused(self, request: Request, status: int, text: str) -> Response:
        """Return an answer that says in a line why it is none: a page, or for htmx a part of it."""
        part = "refused_part.html" if "hx-request" in request.headers else "refused.html"
        return self.render(request, part, status, text=text)


async def received(request: Request, limit: int) -> FormData:
    """Return a posted form.

    Raises:
        HTTPException: it is too large or too slow, or no form.
    """
    if int(request.headers.get("content-length", "0") or 0) > limit:
        raise HTTPException(413, f"at most {limit:,} bytes are taken.")
    taken, receive = 0, request.receive

    async def bounded() -> Any:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise HTTPException(413, f"at most {limit:,} bytes are taken.")
        return message

    try:
        async with asyncio.timeout(RECEIVE_S):
            return await Request(request.scope, bounded).form(max_part_size=limit)
    except TimeoutError:
        raise HTTPException(408, f"the form did not arrive within {RECEIVE_S:g} s.") from None
    except ClientDisconnect:
        raise HTTPException(400, "the form did not arrive whole.") from None


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("search.views.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_readable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["static"] = static_address()
    made.filters["clock"] = lambda time_ms: f"{_at(time_ms):%H:%M:%S} UTC"
    made.filters["lines"] = _lines
    made.filters["iso"] = lambda time_ms: _at(time_ms).isoformat()
    return made


def _lines(text: str) -> Markup:
    """Return a text of several lines, which stay."""
    return Markup("\n").join(printable(line) for line in text.splitlines())


def _at(time_ms: float) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def _readable(value: object) -> object:
    """Return a value for a template without control characters."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
