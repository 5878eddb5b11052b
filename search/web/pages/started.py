"""The page of a command that another page has started.

It shows the progress and the errors of the command, and forwards the browser to the result.
"""

from contextlib import suppress

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from cluster.errors import NotReady
from search.journal.journal import JournalError
from search.journal.store import home
from search.values.verbs import VERBS
from search.web.access import HEADERS
from search.web.forms.launch import Launched, Launcher
from search.web.site import Site

NAV = None


def routes(site: Site) -> list[BaseRoute]:
    """Build the routes of the page, and of the button that stops predictions."""
    launcher = Launcher(site.place)

    async def show(request: Request) -> Response:
        launched = await run_in_threadpool(launcher.find, request.path_params["id"])
        if launched is None:
            raise HTTPException(404, "no command with this id was started on this server.")
        if await is_there(site, launched):
            return leads_to(request, came_of(launched))
        is_part = "hx-request" in request.headers
        page = "started_part.html" if is_part else "started.html"
        return site.render(request, page, started=launched, title=title_of(launched))

    async def stop(request: Request, form: FormData) -> Response:
        """Stop predictions; other commands cannot be stopped on this page."""
        launched = await run_in_threadpool(launcher.find, request.path_params["id"])
        if launched is None or launched.verb != "predict":
            raise HTTPException(
                404,
                "no predictions with this id were started on this server, so there is nothing to "
                "stop.",
            )
        await run_in_threadpool(launched.stop)
        return RedirectResponse(f"/started/{launched.id}", 303)

    return [site.shows("/started/{id}", show), site.changes("/started/{id}/stop", stop)]


def title_of(started: Launched) -> str:
    """Return the title of a started command: its verb and its subject in words."""
    return VERBS[started.verb].start_title.format(started.name)


async def is_there(site: Site, started: Launched) -> bool:
    """True if the browser should be forwarded to the page with the command's result."""
    if started.verb == "predict":
        return await run_in_threadpool(lambda: started.result) is not None
    if started.verb == "promote":
        return False
    if started.verb == "run":
        with suppress(JournalError, NotReady):
            await site.feed.follow(started.subject)
            return True
        return False
    if started.code is not None:
        return not started.refused
    return started.is_running and bool(
        await run_in_threadpool(home(site.place, started.subject).holder)
    )


def came_of(started: Launched) -> str:
    """Return the URL path of the page with the result of a command."""
    return f"/predictions/{started.id}" if started.verb == "predict" else started.page


def leads_to(request: Request, address: str) -> Response:
    """Redirect the browser to another page; for htmx, with the header `HX-Redirect`."""
    if "hx-request" in request.headers:
        return Response(headers={**HEADERS, "HX-Redirect": address})
    return RedirectResponse(address, 303)
