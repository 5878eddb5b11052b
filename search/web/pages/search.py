"""The page of a search. It is live while the search runs, and shows the verdict after its end."""

import json
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from search.design.budget import shares_of
from search.facts.data import source_text
from search.facts.metric import interval
from search.facts.parameters import searched
from search.facts.standing import Stage
from search.journal.result import SearchResult
from search.values.wording import duration
from search.views.standing import race_lines
from search.views.text.labels import figure_text, interval_text, strategy_text
from search.views.text.sentences import selection_sentences
from search.views.text.tables import models_table
from search.views.text.verdict import tiles, verdict
from search.web.charts import course_line, of_search, top
from search.web.feed import Followed
from search.web.forms.verbs import button_name
from search.web.listing import Query
from search.web.news import left_text, stand_text
from search.web.site import Site
from search.web.stream import streamed
from search.web.trials import table_of

NAV = None
CURVE = (720, 240)
"""Width and height, in pixels, of the chart that is visible without JavaScript."""
PARTS = ("now", "told", "rows", "states")
"""Names of the parts of the page that change while it is open. The template `search_NAME.html` is
rendered into the element `#NAME`.
"""


def routes(site: Site) -> list[BaseRoute]:
    """Build the routes of the page, of its stream of events, and of the data of its charts."""

    async def show(request: Request) -> Response:
        followed = await site.feed.follow(request.path_params["name"])
        return await run_in_threadpool(_page, site, request, followed)

    async def events(request: Request) -> Response:
        followed = await site.feed.follow(request.path_params["name"])
        query = Query.of(request.query_params)

        def make(result: SearchResult) -> str:
            facts = facts_of(followed, query)
            parts = {name: site.text(f"search_{name}.html", **facts) for name in PARTS}
            stands = {"stand": facts["stand"], "version": facts["version"]}
            return json.dumps({"parts": parts, "top": top(result), **stands})

        return streamed(request, site.feed, followed, query, make)

    async def charts(request: Request) -> Response:
        followed = await site.feed.follow(request.path_params["name"])
        view = followed.view("charts")
        await view.renew(followed, lambda result: json.dumps(of_search(followed)))
        return site.json(view.text)

    return [
        site.shows("/searches/{name}", show),
        site.shows("/searches/{name}/events", events),
        site.shows("/searches/{name}/charts", charts),
    ]


def _page(site: Site, request: Request, followed: Followed) -> Response:
    with followed.reading() as result:
        facts = facts_of(followed, Query.of(request.query_params))
        over = result.chosen is not None and facts["stand"] != "running"
        return site.render(
            request,
            "search.html",
            **facts,
            verdict=[
                (title, sentence.render(button_name))
                for title, sentence in (verdict(result) if over else [])
            ],
            selection=[sentence.render(button_name) for sentence in selection_sentences(result)],
            repeats=list(result.selection.repeats) if result.selection is not None else [],
            models=models_table(result) if over else [],
            title=source_text(result.started.data),
            strategy=strategy_text(result.started.experiment),
            curve=course_line(followed.course, *CURVE) if followed.course is not None else "",
            size=CURVE,
            has_axes=len(searched(result)) > 1,
        )


def facts_of(followed: Followed, query: Query) -> dict[str, Any]:
    """Collect the variables for the templates of the page's changing parts.

    The search must be locked (`Followed.reading`).
    """
    standing = followed.standing
    result, stage = standing.result, standing.stage
    planned = int(result.started.experiment["trials"])
    return {
        "search": followed.name,
        "version": followed.version,
        "result": result,
        "holder": standing.holder,
        "stand": stage.value,
        "stand_text": stand_text(standing),
        "race": race_lines(result) if stage is Stage.SELECTING else [],
        "trouble": followed.trouble,
        "left": left_text(result, followed.before, planned) if stage is Stage.RUNNING else "",
        "ended": result.ended,
        "planned": planned,
        "shares": shares_of(result),
        "tiles": tiles(result) if stage is Stage.OVER else _live_tiles(result),
        "news_lines": list(reversed(followed.news_lines)),
        "table": table_of(followed, query),
        "best": result.best.trial if result.best is not None else "",
    }


def _live_tiles(result: SearchResult) -> list[tuple[str, str, str]]:
    """List the most important numbers of a running search as (title, number, explanation)."""
    best, metric = result.best, result.metric
    best_tile = [(f"best validation {metric.title}", "none yet", "before the first epoch")]
    if best is not None:
        note = f"{best.trial}; {interval_text(interval(best, result.images))}"
        if len(result.distinct) > 1:
            note += ", partly by luck as the best of many"
        best_tile = [(f"best validation {metric.title}", figure_text(best), note)]
    counts = result.counts
    return [
        *best_tile,
        ("running", str(counts.get("running", 0)), "trials now"),
        ("stopped early", f"{counts.get('stopped', 0):,}", "trials that fell behind"),
        ("epochs", f"{result.epochs_trained:,}", "trained in total"),
        ("search time", duration(result.wall_s), "without its pauses"),
    ]
