"""Server-sent events of a search: what is new in it, for a page that is open.

`epochs` tells finished epochs, new trials and the best so far as JSON, at once; `parts` has the
page's changing parts as HTML, made once for all pages that show the same; `reset` says that a page
is too far behind, and is to ask for everything anew; `gone` that the search was deleted. The id of
an event is the number of one of the journal's, so that a browser that lost the connection goes on
from there.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from cluster.errors import Refused
from search.journal.result import SearchResult
from search.views.series import Axis
from search.views.web.access import HEADERS
from search.views.web.charts import news
from search.views.web.course import Record
from search.views.web.feed import Behind, Feed, Followed, View

HEARTBEAT_S = 15.0
"""Seconds after which something is sent though nothing has happened."""
AGAIN_MS = 2000
"""Milliseconds after which a browser that has lost the connection tries again."""
MAX_WATCHERS = 200
"""The most pages that are told what is new in one search."""
Make = Callable[[SearchResult], str]


def streamed(
    request: Request, feed: Feed, followed: Followed, key: Hashable, make: Make
) -> Response:
    """Return the answer that tells what is new until the client leaves.

    Args:
        request: says from which event on, by `Last-Event-ID` or else by `after`, and of which
            version the page has its parts (`seen`).
        feed: of the searches.
        followed: the search.
        key: equal for all pages that show the same parts.
        make: makes the page's changing parts, as JSON, under the search's lock.

    Raises:
        Refused: too many watch the search already.
        Behind: it was begun anew, and has no beginning yet.
    """
    if len(followed.watchers) >= MAX_WATCHERS:
        raise Refused(f"{MAX_WATCHERS} pages on this search are open already: close one.")
    after = request.headers.get("last-event-id") or request.query_params.get("after", "")
    seen = request.query_params.get("seen", "")
    stream = _Stream(followed, followed.view(key), make, _whole(after), _whole(seen))
    headers = {**HEADERS, "Content-Type": "text/event-stream"}
    return StreamingResponse(stream.events(feed), headers=headers)


def _whole(text: str) -> int:
    """Return a whole number; 0 for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


class _Stream:
    """The news for one page."""

    def __init__(self, followed: Followed, view: View, make: Make, after: int, seen: int) -> None:
        """Begin with the events behind `after`, and with parts newer than the version `seen`."""
        self.followed, self.view, self.make = followed, view, make
        # A version is a date at first, which may have been set back since the page was made.
        self.after, self.seen = after, seen if seen <= followed.version else -1
        self.best: tuple[int, Record | None] = (0, None)
        """How many records it knows, and the last of them."""
        self.started, self.axes = followed.result.started, _axes(followed.result)

    async def events(self, feed: Feed) -> AsyncIterator[bytes]:
        """Yield what is to be sent."""
        async with feed.watching(self.followed) as woken:
            yield b"retry: %d\n\n" % AGAIN_MS
            while not feed.is_over:
                woken.clear()
                if self.followed.is_gone:
                    yield _event("gone", "")
                    return
                try:
                    if epochs := self._epochs():
                        yield epochs
                    await self.view.renew(self.followed, self.make)
                except Behind:
                    yield _event("reset", "")
                    return
                if self.seen < self.view.version:
                    self.seen = self.view.version
                    yield _event("parts", self.view.text)
                if not await self._until(woken):
                    yield b": nothing new\n\n"

    async def _until(self, woken: asyncio.Event) -> bool:
        """Wait until there may be something new, and return whether that may be."""
        due_s = HEARTBEAT_S
        if self.seen < self.followed.version:
            due_s = max(0.05, self.view.again_at - time.monotonic())
        try:
            await asyncio.wait_for(woken.wait(), due_s)
        except TimeoutError:
            return due_s != HEARTBEAT_S
        return True

    def _epochs(self) -> bytes:
        """Return what is new of epochs and trials; empty if nothing is.

        Raises:
            Behind: the page has too little, or charts with other axes.
        """
        result = self.followed.result
        if result.started is not self.started:  # as by a round of a refinement
            if _axes(result) != self.axes or result.started.id != self.started.id:
                raise Behind("the charts have other axes now, or this is another search.")
            self.started = result.started
        points, trials = self.followed.since(self.after)
        course = self.followed.course
        if course is None or not (points or trials):
            return b""
        if points:
            self.after = points[-1].number
        records = course.records
        best = len(records), records[-1] if records else None
        told = records if best != self.best else None
        self.best = best
        return _event("epochs", news(points, trials, self.axes, told), self.after)


def _axes(result: SearchResult) -> list[Axis]:
    """Return an axis for each searched parameter.

    Raises:
        Behind: the journal was begun anew, and has no beginning yet.
    """
    if not result.sessions:
        raise Behind("it was begun anew: look again in a moment.")
    return Axis.all_of(result)


def _event(kind: str, data: str, number: int | None = None) -> bytes:
    """Return an event whose data, JSON, is in one line."""
    name = f"id: {number}\n" if number is not None else ""
    return f"{name}event: {kind}\ndata: {data}\n\n".encode()
