"""The page of a verb that was started here: it leads to what came of it, or says why nothing."""

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
from search.views.web.access import HEADERS
from search.views.web.forms.launch import Launched, Launcher
from search.views.web.site import Site

NAV = None


def routes(site: Site) -> list[BaseRoute]:
    """Return the page's routes."""
    launcher = Launcher(site.place)

    async def show(request: Request) -> Response:
        found = await run_in_threadpool(launcher.find, request.path_params["id"])
        if found is None:
            raise HTTPException(404, "nothing that was started here is called so.")
        if await is_there(site, found):
            return leads_to(request, came_of(found))
        is_part = "hx-request" in request.headers
        page = "started_part.html" if is_part else "started.html"
        return site.render(request, page, started=found, title=title_of(found))

    async def stop(request: Request, form: FormData) -> Response:
        """End what has no search that could be stopped on its own page."""
        found = await run_in_threadpool(launcher.find, request.path_params["id"])
        if found is None or found.verb != "predict":
            raise HTTPException(404, "nothing is called so that could be stopped here.")
        await run_in_threadpool(found.stop)
        return RedirectResponse(f"/started/{found.id}", 303)

    return [site.shows("/started/{id}", show), site.changes("/started/{id}/stop", stop)]


def title_of(started: Launched) -> str:
    """Return what is being done, in words."""
    return VERBS[started.verb].start_title.format(started.name)


async def is_there(site: Site, started: Launched) -> bool:
    """Return whether the page of what comes of it has more to say by now."""
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
    """Return the address of the page of what comes of it."""
    return f"/predictions/{started.id}" if started.verb == "predict" else started.page


def leads_to(request: Request, address: str) -> Response:
    """Return an answer that takes the browser to another page, also out of a part of one."""
    if "hx-request" in request.headers:
        return Response(headers={**HEADERS, "HX-Redirect": address})
    return RedirectResponse(address, 303)
