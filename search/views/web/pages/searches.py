"""The page *Searches*: all that are kept in the place."""

import threading
import time
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from search.journal.overview import Overview, Overviews
from search.journal.result import moment
from search.journal.store import Storage
from search.list import searches
from search.values.wording import duration
from search.views.web.charts import line
from search.views.web.listing import Cell, Column, Query, Row, listed
from search.views.web.site import Site
from search.views.web.words import overview_state

NAV = ("Searches", "/")
CURVE = (120, 28)
"""Width and height of a curve in the table."""
FRESH_S, BUCKET_FRESH_S = 4.0, 20.0
"""Seconds for which open pages share what was found; a bucket is asked twice for each search."""
COLUMNS = (
    Column("name", "search"),
    Column("state", "state"),
    Column(
        "trials",
        "trials",
        is_number=True,
        hint="trials that have ended, of those planned; once it is over, those with a result",
    ),
    Column(
        "best",
        "best",
        is_number=True,
        hint="on the validation images, with its 95 % interval; the best of many is partly lucky, "
        "for which the interval does not allow",
    ),
    Column("course", "best so far", hint="from the first epoch to the last", is_sorted=False),
    Column("data", "images"),
    Column("task", "task"),
    Column("space", "space"),
    Column("begun", "begun (UTC)", is_number=True),
    Column("took", "took", is_number=True),
)


def routes(site: Site) -> list[BaseRoute]:
    """Return the page's routes."""
    looked = Looked(site.place)

    def rendered(request: Request) -> Response:
        is_poll = "hx-request" in request.headers and "hx-boosted" not in request.headers
        found = looked.lines(is_poll=is_poll)
        lines = {one.name: one for one in found}
        curves = {one.name: line(one.course, *CURVE) for one in found}
        table = listed([row(one) for one in found], COLUMNS, Query.of(request.query_params))
        return site.render(
            request, "searches.html", table=table, lines=lines, curves=curves, size=CURVE
        )

    async def show(request: Request) -> Response:
        return await run_in_threadpool(rendered, request)

    return [site.shows("/", show)]


class Looked:
    """The searches of a place, looked for once for all pages that are open."""

    def __init__(self, place: Storage) -> None:
        self.place, self._known = place, Overviews(place)
        self._lock, self._found, self._at = threading.Lock(), list[Overview](), float("-inf")
        self._fresh_s = FRESH_S if isinstance(place, Path) else BUCKET_FRESH_S

    def lines(self, *, is_poll: bool) -> list[Overview]:
        """Return a line for each; a page that asks again and again may get what another got.

        Raises:
            StorageError: the bucket refuses.
        """
        with self._lock:
            if not is_poll or time.monotonic() - self._at > self._fresh_s:
                self._found = searches(self.place, self._known)
                self._at = time.monotonic()
            return self._found


def row(one: Overview) -> Row:
    """Return a search's row."""
    state = overview_state(one)
    if one.state == "broken":
        return Row(one.name, state, {"state": Cell(state, state), "name": Cell("", one.name)})
    cells = {
        "name": Cell("", one.name),
        "state": Cell(state, state),
        "trials": Cell(f"{one.counted:,} of {one.planned:,}", one.counted),
        "best": Cell(_best(one), one.best),
        "data": Cell(one.data, one.data),
        "task": Cell(one.task, one.task),
        "space": Cell(one.space, one.space),
        "begun": Cell(moment(one.began_ms).removesuffix(" UTC"), one.began_ms),
        "took": Cell(duration(one.wall_s), one.wall_s),
    }
    return Row(one.name, state, cells)


def _best(one: Overview) -> str:
    return "" if one.best is None else f"{one.best:.4f} {one.metric}"
