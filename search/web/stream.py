"""Server-sent events with which an open page of a search receives the changes of the search.

| event | meaning |
|---|---|
| `epochs` | finished epochs, new trials and the best values so far, as JSON; sent immediately |
| `parts` | the changed parts of the page as HTML, rendered once for all pages with these parts |
| `reset` | the page is too far behind and must reload everything |
| `gone` | the search was deleted |

The id of an `epochs` event is the number of an event in the journal. After a lost connection, the
browser sends the last id that it received, and gets the epochs and trials after that event.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from cluster.errors import Refused
from search.facts.series import Axis, CourseRecord
from search.journal.result import SearchResult
from search.web.access import HEADERS
from search.web.charts import news
from search.web.feed import Behind, Feed, Followed, SharedText

HEARTBEAT_S = 15.0
"""Seconds without events after which a comment is sent, to keep the connection open."""
AGAIN_MS = 2000
"""Milliseconds after which a browser should reconnect if the connection is lost."""
MAX_WATCHERS = 200
"""Maximum number of pages that watch one search."""
Make = Callable[[SearchResult], str]


def streamed(
    request: Request, feed: Feed, followed: Followed, key: Hashable, make: Make
) -> Response:
    """Build the response that streams the changes of a search until the client disconnects.

    Args:
        request: the request. The header `Last-Event-ID`, or else the parameter `after`, has the
            number of the last event that the page has. The parameter `seen` has the version of the
            page's parts.
        feed: the feed of the search.
        followed: the search.
        key: a key that is equal for all pages with the same parts.
        make: renders the changing parts of the page as JSON, while the search is locked.

    Raises:
        Refused: too many pages on this search are open.
        Behind: the journal was replaced, and its first event is not written yet.
    """
    if len(followed.watchers) >= MAX_WATCHERS:
        raise Refused(
            f"{MAX_WATCHERS} pages of this search are already open, and more are not allowed. "
            "Close one of these pages."
        )
    after = request.headers.get("last-event-id") or request.query_params.get("after", "")
    seen_version = request.query_params.get("seen", "")
    stream = _Stream(followed, followed.view(key), make, _whole(after), _whole(seen_version))
    headers = {**HEADERS, "Content-Type": "text/event-stream"}
    return StreamingResponse(stream.events(feed), headers=headers)


def _whole(text: str) -> int:
    """Parse a whole number; return 0 for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


class _Stream:
    """The stream of events for one open page."""

    def __init__(
        self, followed: Followed, view: SharedText, make: Make, after: int, seen_version: int
    ) -> None:
        """Prepare a stream for a page.

        Args:
            followed: the search.
            view: the rendered parts of the page.
            make: renders the parts.
            after: the number of the last event that the page has.
            seen_version: the version of the parts that the page has.
        """
        self.followed, self.view, self.make = followed, view, make
        # The page's version may be greater than ours: versions start at the current time, and
        # the clock may have been set back since then.
        self.after, self.seen_version = (
            after,
            seen_version if seen_version <= followed.version else -1,
        )
        self.best: tuple[int, CourseRecord | None] = (0, None)
        """Number of best values (records) that were sent to the page, and the last of them."""
        self.started, self.axes = followed.result.started, _axes(followed.result)

    async def events(self, feed: Feed) -> AsyncIterator[bytes]:
        """Yield the events, encoded for the response."""
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
                if self.seen_version < self.view.version:
                    self.seen_version = self.view.version
                    yield _event("parts", self.view.text)
                if not await self._until(woken):
                    yield b": nothing new\n\n"

    async def _until(self, woken: asyncio.Event) -> bool:
        """Wait for a change, or until the next rendering is due.

        Return False if neither happens within `HEARTBEAT_S`.
        """
        due_s = HEARTBEAT_S
        if self.seen_version < self.followed.version:
            due_s = max(0.05, self.view.again_at - time.monotonic())
        try:
            await asyncio.wait_for(woken.wait(), due_s)
        except TimeoutError:
            return due_s != HEARTBEAT_S
        return True

    def _epochs(self) -> bytes:
        """Encode the new epochs and trials as an event; empty if there are none.

        Raises:
            Behind: the page is too far behind, or the axes of its charts have changed.
        """
        result = self.followed.result
        if result.started is not self.started:  # a round of a refinement has begun, for example
            if _axes(result) != self.axes or result.started.id != self.started.id:
                raise Behind(
                    "the axes of the charts have changed, or the search was started again. Reload "
                    "the page."
                )
            self.started = result.started
        points, trials = self.followed.since(self.after)
        course = self.followed.course
        if course is None or not (points or trials):
            return b""
        if points:
            self.after = points[-1].number
        records = course.records
        best = len(records), records[-1] if records else None
        new_records = records if best != self.best else None
        self.best = best
        return _event("epochs", news(points, trials, self.axes, new_records), self.after)


def _axes(result: SearchResult) -> list[Axis]:
    """Build an axis for each searched parameter.

    Raises:
        Behind: the journal was replaced, and its first event is not written yet.
    """
    if not result.sessions:
        raise Behind("the search was started again. Reload the page in a moment.")
    return Axis.all_of(result)


def _event(kind: str, data: str, number: int | None = None) -> bytes:
    """Encode a server-sent event.

    Args:
        kind: the kind of the event.
        data: JSON in one line.
        number: the id of the event; None for an event without an id.
    """
    name = f"id: {number}\n" if number is not None else ""
    return f"{name}event: {kind}\ndata: {data}\n\n".encode()
