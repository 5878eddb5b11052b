"""The page on which people drop images, see the model's answers, and correct them."""

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
    BodyMemory,
    error_response,
    guarded_route,
    json_response,
    own_files,
    page,
    read_fields,
)
from trainables.datasets.images import open_image
from trainables.errors import ConfigError

if TYPE_CHECKING:  # the import would add a fifth of a second to a server's start
    from search.feedback.recorder import Recorder

MAX_BYTES = 45_000_000
"""Maximum size of the body of a correction, in bytes: an image of 32 MiB in base64."""
MAX_CONCURRENT = 4
"""Maximum number of corrections that are stored at the same time. The total size of all bodies that
are being read is at most this number times `MAX_BYTES`.
"""
FORM = 'a correction must be {"id": ANSWER, "class": NAME}, or have "image": SHA256 for "id".'
NOT_RECORDED = "this server does not store corrections. Start it with --record PLACE."
NOT_OPEN = (
    "this server does not accept corrections, because other machines can reach it. Start it with "
    "--open-corrections to accept them from everybody."
)


@dataclass(frozen=True)
class DropContext:
    """The data that the page shows about a model, and the recorder that stores corrections."""

    model: str
    """The name under which the model is served."""
    classes: tuple[str, ...]
    version: Callable[[], str]
    """Returns the version in use."""
    recorder: "Recorder | None" = None
    """The recorder; None if nothing is recorded."""
    hosts: Collection[str] | None = LOOPBACK
    """The host names by which the server may be addressed; None allows any."""
    is_open: bool = True
    """True if everyone who can reach the server may send corrections."""
    corrects: bool = True
    """True if the model's answers can be corrected, which are then classes of images."""


def routes(context: DropContext) -> list[BaseRoute]:
    """Build the routes of the page: `/`, its scripts and styles, and `POST /corrections`."""

    async def show(request: Request) -> Response:
        facts = {
            "model": context.model,
            "version": context.version(),
            "classes": context.classes,
            "records": context.recorder is not None and context.is_open,
            "corrects": context.corrects,
        }
        return page("drop.html", facts)

    places, memory = asyncio.Semaphore(MAX_CONCURRENT), BodyMemory(MAX_CONCURRENT * MAX_BYTES)

    async def take(request: Request) -> Response:
        if context.recorder is None or not context.is_open:
            return error_response(403, NOT_RECORDED if context.recorder is None else NOT_OPEN)
        # Browsers send the origin of the page with a POST request; other programs do not.
        by = "page" if "origin" in request.headers else "api"
        with memory.reserve() as take:  # before `places`, so that slow clients block no others
            values = await read_fields(request, MAX_BYTES, FORM, take)
            async with places:
                return await run_in_threadpool(record_correction, values, by, context.recorder)

    return [
        guarded_route("/", "GET", show, context.hosts),
        own_files("drop.js", "dropped.js", "common.js", "common.css"),
        guarded_route("/corrections", "POST", take, context.hosts),
    ]


def record_correction(values: dict[str, str], by: str, recorder: "Recorder") -> Response:
    """Record the correct class of an image.

    Args:
        values: the `class`, and either the `id` of an answer, the hash of a recorded `image`, or
            the `content` of an image file in base64.
        by: `page` or `api`, the origin of the correction.
        recorder: stores the correction.

    Raises:
        HTTPException: there are other fields, or the class is missing.
        ConfigError, OSError: see `Recorder.correct`.
    """
    if not values.get("class") or not values.keys() <= {"class", "id", "image", "content"}:
        raise HTTPException(400, FORM)
    correction = recorder.correct(
        values["class"],
        by,
        answer=values.get("id", ""),
        image=values.get("image", ""),
        content=_decode_image(values.get("content", "")),
    )
    return json_response({"image": correction.image, "class": correction.label})


def _decode_image(text: str) -> bytes:
    """Decode an image file from base64, and check that it is an image; empty for an empty text.

    Raises:
        ConfigError: the text is not base64, or the content is not an image.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        raise ConfigError("`content` is not valid base64. Send an image file in base64.") from None
    if content:
        open_image(content).close()
    return content
