"""The page on which kept images are corrected, one after another, and the calls that it makes.

| call | what |
|---|---|
| `GET /next?count=N&without=SHA256,...` | the images that come next, and the progress |
| `GET /images/SHA256` | an image as PNG |
| `POST /labels` `{"image": SHA256, "class": NAME}` | what an image shows |
| `DELETE /labels/SHA256` | take back what was said last of it here |
| `POST /skips` `{"image": SHA256}` | put an image behind all others |
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
from search.feedback.labelling import LabellingQueue
from search.feedback.pictures import as_png
from search.feedback.records import NotRecorded
from search.serving.pages.guard import HEADERS, answer, fields, guarded, own_files, page

MAX_BYTES = 100_000
MOST = 100
"""The number of images that one call names."""


def routes(labelling: LabellingQueue, hosts: Collection[str] | None) -> list[BaseRoute]:
    """Return the page's routes.

    Args:
        labelling: the images.
        hosts: the names by which the server may be called; None allows any.
    """
    calls = Calls(labelling)
    return [
        guarded("/", "GET", calls.show, hosts),
        own_files("label.js", "common.js", "common.css"),
        guarded("/next", "GET", calls.next, hosts),
        guarded("/images/{image}", "GET", calls.image, hosts),
        guarded("/labels", "POST", calls.correct, hosts),
        guarded("/labels/{image}", "DELETE", calls.take_back, hosts),
        guarded("/skips", "POST", calls.skip, hosts),
    ]


class Calls:
    """The answers to the page's calls; none of them blocks the server's loop."""

    def __init__(self, labelling: LabellingQueue) -> None:
        self._labelling = labelling

    async def show(self, request: Request) -> Response:
        """Answer with the page."""
        about = self._labelling.info
        return page("label.html", {"model": about.model, "classes": about.classes})

    async def next(self, request: Request) -> Response:
        """Answer with the images that come next."""
        count = request.query_params.get("count", "20")
        if not (is_whole(count) and 0 < int(count) <= MOST):
            raise HTTPException(400, f"count is a number from 1 to {MOST} (got '{count[:80]}').")
        without = request.query_params.get("without", "").split(",")
        return answer(await run_in_threadpool(self._next, int(count), without))

    def _next(self, count: int, without: list[str]) -> dict[str, Any]:
        items = self._labelling.next_items(count, without)
        return {"items": [asdict(one) for one in items], **asdict(self._labelling.progress)}

    async def image(self, request: Request) -> Response:
        """Answer with an image."""
        content = await run_in_threadpool(self._png, request.path_params["image"])
        return Response(content, headers={**HEADERS, "Content-Type": "image/png"})

    def _png(self, name: str) -> bytes:
        if (content := self._labelling.records.image(name)) is None:
            raise NotRecorded("that image is not kept (any more).")
        return as_png(content)

    async def correct(self, request: Request) -> Response:
        """Keep what an image shows."""
        told = await _fields(request, "image", "class")
        return await self._done(lambda: self._labelling.correct(told["image"], told["class"]))

    async def take_back(self, request: Request) -> Response:
        """Take back what was kept."""
        name = request.path_params["image"]
        return await self._done(lambda: self._labelling.take_back(name))

    async def skip(self, request: Request) -> Response:
        """Put an image behind all others."""
        told = await _fields(request, "image")
        return await self._done(lambda: self._labelling.skip(told["image"]))

    async def _done(self, change: Callable[[], None]) -> Response:
        """Make a change, and answer with the progress."""
        await run_in_threadpool(change)
        # It may wait while the records are read.
        return answer(asdict(await run_in_threadpool(lambda: self._labelling.progress)))


async def _fields(request: Request, *names: str) -> dict[str, str]:
    """Return the fields of these names; see `guard.fields`."""
    wanted = f"an object is wanted with {' and '.join(names)}, each of them text."
    told = await fields(request, MAX_BYTES, wanted)
    if told.keys() != set(names):
        raise HTTPException(400, wanted)
    return told
