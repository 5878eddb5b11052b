"""The page *Searches*: all that are kept in the place."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from search.list import searches
from search.views.web.site import Site

NAV = ("Searches", "/")


def routes(site: Site) -> list[BaseRoute]:
    """Return the page's routes."""

    async def show(request: Request) -> Response:
        found = await run_in_threadpool(searches, site.place)
        return site.render(request, "searches.html", found=found)

    return [site.shows("/", show)]
