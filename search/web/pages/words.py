"""The page *Words*, which explains the words that the other pages use."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from search.views.text.terms import TERMS, TERMS_OF_CLASSES
from search.web.site import Site
from trainables.tasks import TASKS

NAV = None


def routes(site: Site) -> list[BaseRoute]:
    """Build the route of the page, which each other page links to."""

    async def show(request: Request) -> Response:
        of_tasks = {word: text for task in TASKS.values() for word, text in task.terms.items()}
        terms = TERMS | TERMS_OF_CLASSES | of_tasks
        return site.render(request, "words.html", terms=terms)

    return [site.shows("/words", show)]
