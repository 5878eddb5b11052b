"""The page to drop images on, which shows what the model says of each and takes corrections."""

import base64
import io
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from search.feedback.records import Correction, NotKept
from search.serving.pages.guard import LOOPBACK, answer, body, error, guarded, own_files, page
from trainables.datasets.images import FORMATS, MAX_PIXELS
from trainables.errors import ConfigError

MAX_BYTES = 70_000_000
"""The largest body of a correction: an image of 50 MB in base64."""
NOT_RECORDED = "this server keeps no corrections: start it with --record PLACE."


class Correct(Protocol):
    """Keeps what an image really shows; see `search.feedback.recorder.Recorder.correct`."""

    def __call__(
        self, label: str, by: str, *, answer: str = "", image: str = "", content: bytes = b""
    ) -> Correction:
        """Keep it, and return what was kept."""


@dataclass(frozen=True)
class Context:
    """What the page says of a model, and what it hands corrections to."""

    model: str
    """The name under which it is served."""
    classes: tuple[str, ...]
    version: Callable[[], str]
    """Returns the version that answers now."""
    correct: Correct | None = None
    """None if nothing is recorded."""
    hosts: Collection[str] | None = LOOPBACK
    """The names by which the server may be called; None allows any."""


def routes(context: Context) -> list[BaseRoute]:
    """Return the page's routes: `/`, its files, and `POST /corrections`."""

    async def show(request: Request) -> Response:
        facts = {
            "model": context.model,
            "version": context.version(),
            "classes": context.classes,
            "records": context.correct is not None,
        }
        return page("drop.html", facts)

    async def take(request: Request) -> Response:
        return await corrected(request, context.correct)

    return [
        guarded("/", "GET", show, context.hosts),
        own_files("drop.js", "common.js", "common.css"),
        guarded("/corrections", "POST", take, context.hosts),
    ]


async def corrected(request: Request, correct: Correct | None) -> Response:
    """Answer `{"id" or "image" or "content": ..., "class": NAME}`."""
    if correct is None:
        return error(403, NOT_RECORDED)
    try:
        told = _told(await body(request, MAX_BYTES))
    except ValueError as refused:
        return error(413 if "bytes" in str(refused) else 400, f"{refused}.")
    # Browsers name the page that sends something; programs do not.
    by = "page" if "origin" in request.headers else "api"
    try:
        said = await run_in_threadpool(
            correct,
            told["class"],
            by,
            answer=told["id"],
            image=told["image"],
            content=_image(told["content"]),
        )
    except NotKept as refused:
        return error(404, str(refused))
    except ConfigError as refused:
        return error(400, str(refused))
    except OSError as refused:
        return error(503, f"it could not be kept, try again: {refused.strerror or refused}")
    return answer({"image": said.image, "class": said.label})


def _told(content: bytes) -> dict[str, str]:
    """Return the fields of a correction; those that are missing are empty.

    Raises:
        ValueError: it is none.
    """
    wanted = 'a correction is {"id": ANSWER, "class": NAME}, or "image": SHA256 in place of "id"'
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError(wanted) from None
    fields = ("class", "id", "image", "content")
    if not isinstance(told, dict) or not told.get("class") or not told.keys() <= {*fields}:
        raise ValueError(wanted)
    if not all(isinstance(value, str) for value in told.values()):
        raise ValueError(wanted)
    return {field: told.get(field, "") for field in fields}


def _image(text: str) -> bytes:
    """Return an image that came as base64.

    Raises:
        ConfigError: it is none.
    """
    try:
        content = base64.b64decode(text, validate=True)
        if content:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError):
        raise ConfigError("`content` is no image in base64 that can be read.") from None
    return content
