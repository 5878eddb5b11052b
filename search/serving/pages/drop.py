"""The page to drop images on, which shows what the model says of each and takes corrections."""

import asyncio
import base64
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from search.serving.pages.guard import (
    LOOPBACK,
    Room,
    answer,
    error,
    fields,
    guarded,
    own_files,
    page,
)
from trainables.datasets.images import open_image
from trainables.errors import ConfigError

if TYPE_CHECKING:  # it would take a fifth of a second of a server's start
    from search.feedback.recorder import Recorder

MAX_BYTES = 45_000_000
"""The largest body of a correction: an image of 32 MiB in base64."""
AT_ONCE = 4
"""The number of corrections that are kept at a time, and of the largest that are read."""
FORM = 'a correction is {"id": ANSWER, "class": NAME}, or "image": SHA256 in place of "id".'
NOT_RECORDED = "this server keeps no corrections: start it with --record PLACE."
CLOSED = (
    "other machines reach this server, and it takes no corrections: start it with "
    "--open-corrections to take anybody's."
)


@dataclass(frozen=True)
class Context:
    """The facts that the page tells of a model, and the recorder that keeps corrections."""

    model: str
    """The name under which it is served."""
    classes: tuple[str, ...]
    version: Callable[[], str]
    """Returns the version that answers now."""
    recorder: "Recorder | None" = None
    """None if nothing is recorded."""
    hosts: Collection[str] | None = LOOPBACK
    """The names by which the server may be called; None allows any."""
    is_open: bool = True
    """True if everybody who reaches the server may send corrections."""


def routes(context: Context) -> list[BaseRoute]:
    """Return the page's routes: `/`, its files, and `POST /corrections`."""

    async def show(request: Request) -> Response:
        facts = {
            "model": context.model,
            "version": context.version(),
            "classes": context.classes,
            "records": context.recorder is not None and context.is_open,
        }
        return page("drop.html", facts)

    places, room = asyncio.Semaphore(AT_ONCE), Room(AT_ONCE * MAX_BYTES)

    async def take(request: Request) -> Response:
        if context.recorder is None or not context.is_open:
            return error(403, NOT_RECORDED if context.recorder is None else CLOSED)
        # Browsers name the page that sends something; programs do not.
        by = "page" if "origin" in request.headers else "api"
        with room.reserved() as reserve:  # a client that is slow holds up no other
            told = await fields(request, MAX_BYTES, FORM, reserve)
            async with places:
                return await run_in_threadpool(corrected, told, by, context.recorder)

    return [
        guarded("/", "GET", show, context.hosts),
        own_files("drop.js", "dropped.js", "common.js", "common.css"),
        guarded("/corrections", "POST", take, context.hosts),
    ]


def corrected(told: dict[str, str], by: str, recorder: "Recorder") -> Response:
    """Keep `{"id" or "image" or "content": ..., "class": NAME}`.

    Raises:
        HTTPException: it is something else.
        ConfigError, OSError: as `Recorder.correct`.
    """
    if not told.get("class") or not told.keys() <= {"class", "id", "image", "content"}:
        raise HTTPException(400, FORM)
    said = recorder.correct(
        told["class"],
        by,
        answer=told.get("id", ""),
        image=told.get("image", ""),
        content=_image(told.get("content", "")),
    )
    return answer({"image": said.image, "class": said.label})


def _image(text: str) -> bytes:
    """Return an image that came as base64; empty if none came.

    Raises:
        ConfigError: it is none.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        raise ConfigError("`content` must be an image in base64.") from None
    if content:
        open_image(content).close()
    return content
