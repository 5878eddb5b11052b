"""The pages with the current report of a search, and with the importance of its parameters."""

import json

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute

from search.facts.parameters import searched, short_names
from search.journal.result import SearchResult
from search.web.access import HEADERS
from search.web.feed import Followed
from search.web.site import Site
from search.web.slow import Slow

NAV = None
POLICY = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src {source}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the report. The report runs in a sandbox that allows only the script
with the hash `source`. It cannot load other files.
"""


def routes(site: Site) -> list[BaseRoute]:
    """Build the routes of the report and of the importance, which are cached (`Slow`)."""
    drawn, weighed = Slow(_report), Slow(_importance)

    async def report(request: Request) -> Response:
        from search.views.page.page import script_source  # imports matplotlib

        followed = await site.feed.follow(request.path_params["name"])
        policy = POLICY.format(source=script_source())
        headers = {**HEADERS, "Content-Security-Policy": policy}
        return HTMLResponse(await drawn.of(followed), headers=headers)

    async def importance(request: Request) -> Response:
        followed = await site.feed.follow(request.path_params["name"])
        shares = json.loads(await weighed.of(followed))
        return site.render(request, "importance.html", search=followed.name, **shares)

    return [
        site.shows("/searches/{name}/report", report),
        site.shows("/searches/{name}/importance", importance),
    ]


def _report(followed: Followed) -> str:
    """Render the same report as `search.report`, from the journal and the files in storage."""
    from search.views.page.page import render

    folder = followed.home.opened(files=True)
    return render(SearchResult.read(folder), folder)


def _importance(followed: Followed) -> str:
    """Compute the importance of each parameter, with a lower and an upper bound, as JSON.

    The JSON also has the number of trainings, and the number of trainings that an estimate needs.
    """
    from search.facts.importance import MIN_TRIALS, importance  # imports Optuna

    result = SearchResult.read(followed.home.opened())
    names = short_names(searched(result))
    rows = [[names[path], *shares] for path, shares in importance(result).items()]
    return json.dumps({"rows": rows, "needed": MIN_TRIALS, "trainings": len(result.distinct)})
