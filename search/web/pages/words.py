"""The page *Words*, which explains the words that the other pages use."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from search.views.text.terms import TERMS, TERMS_OF_CLASSES, TERMS_OF_ENLARGING
from search.web.site import Site

NAV = None


def routes(site: Site) -> list[BaseRoute]:
    """Build the route of the page, which each other page links to."""

    async def show(request: Request) -> Response:
        terms = TERMS | TERMS_OF_CLASSES | TERMS_OF_ENLARGING
        return site.render(request, "words.html", terms=terms)

    return [site.shows("/words", show)]
