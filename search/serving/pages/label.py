"""The page on which people give images their class, and the requests that it makes.

| request | result |
|---|---|
| `GET /next?count=N&without=SHA256,...` | the next N images (`LabellingItem`), except those listed
  in `without`, and the progress |
| `GET /images/SHA256` | an image as PNG |
| `POST /labels` `{"image": SHA256, "class": NAME}` | set the class of an image |
| `DELETE /labels/SHA256` | undo the last correction of an image |
| `POST /skips` `{"image": SHA256}` | move an image to the end of the queue |
| `POST /classes` `{"class": NAME}` | add a class to those of a folder's images, and list all |
"""

from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from cluster.cli import is_whole
from search.feedback.pictures import as_png
from search.feedback.queue import ImageQueue
from search.serving.pages.guard import (
    HEADERS,
    guarded_route,
    json_response,
    own_files,
    page,
    read_fields,
)

MAX_BYTES = 100_000
"""Maximum size of the body of a request, in bytes."""
MAX_COUNT = 100
"""Maximum number of images in a response."""


def routes(labelling: ImageQueue, hosts: Collection[str] | None) -> list[BaseRoute]:
    """Build the routes of the page and of its requests.

    Args:
        labelling: the images and their classes.
        hosts: the host names by which the server may be addressed; None allows any.
    """
    calls = LabelCalls(labelling)
    return [
        guarded_route("/", "GET", calls.show, hosts),
        own_files("label.js", "common.js", "common.css"),
        guarded_route("/next", "GET", calls.next, hosts),
        guarded_route("/images/{image}", "GET", calls.image, hosts),
        guarded_route("/labels", "POST", calls.correct, hosts),
        guarded_route("/labels/{image}", "DELETE", calls.take_back, hosts),
        guarded_route("/skips", "POST", calls.skip, hosts),
        guarded_route("/classes", "POST", calls.add_class, hosts),
    ]


class LabelCalls:
    """Answers the requests of the page, without blocking the event loop."""

    def __init__(self, labelling: ImageQueue) -> None:
        self._labelling = labelling

    async def show(self, request: Request) -> Response:
        """Send the page."""
        queue = self._labelling
        facts = {"subject": queue.subject, "classes": queue.classes, **asdict(queue.purpose)}
        return page("label.html", facts)

    async def next(self, request: Request) -> Response:
        """Send the next images to correct, and the progress."""
        count = request.query_params.get("count", "20")
        if not (is_whole(count) and 0 < int(count) <= MAX_COUNT):
            raise HTTPException(
                400, f"count must be a whole number from 1 to {MAX_COUNT} (got '{count[:80]}')."
            )
        without = request.query_params.get("without", "").split(",")
        return json_response(await run_in_threadpool(self._next, int(count), without))

    def _next(self, count: int, without: list[str]) -> dict[str, Any]:
        items = self._labelling.next_items(count, without)
        return {
            "items": [asdict(item) for item in items],
            "classes": self._labelling.classes,
            **asdict(self._labelling.progress),
        }

    async def image(self, request: Request) -> Response:
        """Send an image as PNG."""
        content = await run_in_threadpool(self._png, request.path_params["image"])
        return Response(content, headers={**HEADERS, "Content-Type": "image/png"})

    def _png(self, name: str) -> bytes:
        return as_png(self._labelling.content(name))

    async def correct(self, request: Request) -> Response:
        """Store the correct class of an image, and send the progress."""
        values = await _read_fields(request, "image", "class")
        return await self._apply(lambda: self._labelling.correct(values["image"], values["class"]))

    async def take_back(self, request: Request) -> Response:
        """Undo the last correction of an image, and send the progress."""
        name = request.path_params["image"]
        return await self._apply(lambda: self._labelling.take_back(name))

    async def skip(self, request: Request) -> Response:
        """Move an image to the end of the queue, and send the progress."""
        values = await _read_fields(request, "image")
        return await self._apply(lambda: self._labelling.skip(values["image"]))

    async def add_class(self, request: Request) -> Response:
        """Add a class, and send the names of all classes."""
        values = await _read_fields(request, "class")
        await run_in_threadpool(self._labelling.add_class, values["class"])
        return json_response({"classes": self._labelling.classes})

    async def _apply(self, change: Callable[[], None]) -> Response:
        """Apply a change in a thread, and send the progress."""
        await run_in_threadpool(change)
        # The progress is computed in a thread too, since it may have to wait for the records.
        return json_response(asdict(await run_in_threadpool(lambda: self._labelling.progress)))


async def _read_fields(request: Request, *names: str) -> dict[str, str]:
    """Read a JSON object with exactly these fields from the body of a request.

    Raises:
        HTTPException: see `guard.read_fields`.
    """
    hint = f"the body must be a JSON object with {' and '.join(names)}, whose values are strings."
    values = await read_fields(request, MAX_BYTES, hint)
    if values.keys() != set(names):
        raise HTTPException(400, hint)
    return values
