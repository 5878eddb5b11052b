"""The page *Compare*: two to five searches side by side."""

import json
from collections.abc import Sequence
from contextlib import ExitStack

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from search.facts.comparison import compare_searches
from search.journal.store import searches_in
from search.views.comparison_table import comparison_rows, contrast_sentence
from search.web.charts import of_courses
from search.web.feed import Followed
from search.web.site import Site
from trainables.errors import ConfigError

NAV = ("Compare", "/compare")
LEAST, MOST = 2, 5
"""Minimum and maximum number of searches that are compared."""


def routes(site: Site) -> list[BaseRoute]:
    """Build the routes of the comparison, and of the data of its charts."""

    async def chosen_searches(request: Request) -> list[Followed]:
        names = list(dict.fromkeys(request.query_params.getlist("names")))
        if not LEAST <= len(names) <= MOST:
            raise ConfigError(f"select {LEAST} to {MOST} searches to compare (got {len(names)}).")
        return [await site.feed.follow(name) for name in names]

    async def show(request: Request) -> Response:
        if not request.query_params.getlist("names"):
            names = await run_in_threadpool(searches_in, site.place)
            return site.render(request, "compare_which.html", names=names, most=MOST)
        return await run_in_threadpool(_page, site, request, await chosen_searches(request))

    async def charts(request: Request) -> Response:
        return site.json(await run_in_threadpool(_charts, await chosen_searches(request)))

    return [site.shows("/compare", show), site.shows("/compare/charts", charts)]


def _page(site: Site, request: Request, searches: Sequence[Followed]) -> Response:
    with ExitStack() as stack:
        for followed in _in_order(searches):
            stack.enter_context(followed.reading())
        results = [followed.result for followed in searches]
        comparison = compare_searches(results)
        metrics = {result.name: result.metric for result in results}
        rows = list(comparison_rows(comparison, results))
        return site.render(
            request,
            "compare.html",
            names=[followed.name for followed in searches],
            rows=rows,
            contrasts=[
                contrast_sentence(contrast, metrics[contrast.leader])
                for contrast in comparison.contrasts
            ],
            by_images=any(contrast.by == "images" for contrast in comparison.contrasts),
            has_one_metric=len(set(metrics.values())) == 1,
            metric=results[0].metric,
        )


def _charts(searches: Sequence[Followed]) -> str:
    with ExitStack() as stack:
        for followed in _in_order(searches):
            stack.enter_context(followed.reading())
        return json.dumps(of_courses(searches))


def _in_order(searches: Sequence[Followed]) -> list[Followed]:
    """Sort the searches by name: if all threads lock them in this order, no deadlock can occur."""
    return sorted(searches, key=lambda followed: followed.name)
