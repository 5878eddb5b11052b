"""The page *Compare*: two to five searches over one another."""

import json
from collections.abc import Sequence
from contextlib import ExitStack

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from search.compare import compare_searches, rows_of, sentence
from search.journal.store import searches_in
from search.views.web.charts import of_courses
from search.views.web.feed import Followed
from search.views.web.site import Site
from trainables.errors import ConfigError

NAV = ("Compare", "/compare")
LEAST, MOST = 2, 5


def routes(site: Site) -> list[BaseRoute]:
    """Return the page's routes."""

    async def asked(request: Request) -> list[Followed]:
        names = list(dict.fromkeys(request.query_params.getlist("names")))
        if not LEAST <= len(names) <= MOST:
            raise ConfigError(f"mark {LEAST} to {MOST} searches to compare (got {len(names)}).")
        return [await site.feed.follow(name) for name in names]

    async def show(request: Request) -> Response:
        if not request.query_params.getlist("names"):
            known = await run_in_threadpool(searches_in, site.place)
            return site.render(request, "compare_which.html", known=known, most=MOST)
        return await run_in_threadpool(_page, site, request, await asked(request))

    async def charts(request: Request) -> Response:
        return site.json(await run_in_threadpool(_charts, await asked(request)))

    return [site.shows("/compare", show), site.shows("/compare/charts", charts)]


def _page(site: Site, request: Request, every: Sequence[Followed]) -> Response:
    with ExitStack() as held:
        for one in _in_order(every):
            held.enter_context(one.reading())
        results = [one.result for one in every]
        found = compare_searches(results)
        metrics = {result.name: result.metric for result in results}
        rows = list(rows_of(found, results))
        return site.render(
            request,
            "compare.html",
            names=[one.name for one in every],
            rows=rows,
            contrasts=[sentence(one, metrics[one.leader]) for one in found.contrasts],
            by_images=any(one.by == "images" for one in found.contrasts),
            has_one_metric=len(set(metrics.values())) == 1,
            metric=results[0].metric,
        )


def _charts(every: Sequence[Followed]) -> str:
    with ExitStack() as held:
        for one in _in_order(every):
            held.enter_context(one.reading())
        return json.dumps(of_courses(every))


def _in_order(every: Sequence[Followed]) -> list[Followed]:
    """Return the searches in the order in which all who hold several take them."""
    return sorted(every, key=lambda one: one.name)
