"""The page *Searches*, which lists all searches of the storage."""

import threading
import time
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from search.facts.overview import Overview, Overviews
from search.journal.result import moment
from search.journal.store import Storage
from search.operations.list import ListRequest, list_searches
from search.values.wording import duration
from search.web.charts import line
from search.web.listing import Cell, Column, Query, Row, listed
from search.web.news import overview_state
from search.web.site import Site

NAV = ("Searches", "/")
CURVE = (120, 28)
"""Width and height of a curve in the table, in pixels."""
FRESH_S, BUCKET_FRESH_S = 4.0, 20.0
"""Seconds for which open pages reuse a listing: `FRESH_S` if the storage is a folder,
`BUCKET_FRESH_S` if it is a bucket, whose listing takes two requests per search.
"""
COLUMNS = (
    Column("name", "search"),
    Column("state", "state"),
    Column(
        "trials",
        "trials",
        is_number=True,
        hint="ended trials of the planned ones; after the end, those with a result",
    ),
    Column(
        "best",
        "best",
        is_number=True,
        hint=(
            "on the validation images, with its 95 % interval; the best of many is partly lucky, "
            "which the interval does not account for"
        ),
    ),
    Column("course", "best so far", hint="from the first epoch to the last", is_sorted=False),
    Column("data", "images"),
    Column("task", "task"),
    Column("space", "space"),
    Column("begun", "started (UTC)", is_number=True),
    Column("took", "took", is_number=True),
)


def routes(site: Site) -> list[BaseRoute]:
    """Build the route of the list of searches, which open pages poll."""
    cache = ListingCache(site.place)

    def rendered(request: Request) -> Response:
        is_poll = "hx-request" in request.headers and "hx-boosted" not in request.headers
        overviews = cache.lines(is_poll=is_poll)
        lines = {overview.name: overview for overview in overviews}
        curves = {overview.name: line(overview.course, *CURVE) for overview in overviews}
        table = listed(
            [row(overview) for overview in overviews], COLUMNS, Query.of(request.query_params)
        )
        return site.render(
            request, "searches.html", table=table, lines=lines, curves=curves, size=CURVE
        )

    async def show(request: Request) -> Response:
        return await run_in_threadpool(rendered, request)

    return [site.shows("/", show)]


class ListingCache:
    """The listing of a storage's searches, shared by all open pages."""

    def __init__(self, place: Storage) -> None:
        self.place, self._reader = place, Overviews(place)
        self._lock, self._overviews, self._at = threading.Lock(), list[Overview](), float("-inf")
        self._fresh_s = FRESH_S if isinstance(place, Path) else BUCKET_FRESH_S

    def lines(self, *, is_poll: bool) -> list[Overview]:
        """List an overview of each search.

        If `is_poll`, the previous listing is returned as long as it is recent (`FRESH_S`).
        """
        with self._lock:
            if not is_poll or time.monotonic() - self._at > self._fresh_s:
                self._overviews = list_searches(ListRequest(storage=self.place), self._reader)
                self._at = time.monotonic()
            return self._overviews


def row(overview: Overview) -> Row:
    """Build the row of a search in the table."""
    state = overview_state(overview)
    if overview.state == "broken":
        return Row(
            overview.name, state, {"state": Cell(state, state), "name": Cell("", overview.name)}
        )
    cells = {
        "name": Cell("", overview.name),
        "state": Cell(state, state),
        "trials": Cell(f"{overview.counted:,} of {overview.planned:,}", overview.counted),
        "best": Cell(_best(overview), overview.best),
        "data": Cell(overview.data, overview.data),
        "task": Cell(overview.task, overview.task),
        "space": Cell(overview.space, overview.space),
        "begun": Cell(moment(overview.began_ms).removesuffix(" UTC"), overview.began_ms),
        "took": Cell(duration(overview.wall_s), overview.wall_s),
    }
    return Row(overview.name, state, cells)


def _best(overview: Overview) -> str:
    return "" if overview.best is None else f"{overview.best:.4f} {overview.metric}"
