"""The server's app: the pages and their own files, for those who have the token."""

from importlib.resources import files

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from search.serving.pages.guard import text_of
from search.views.web.access import HEADERS, Guarded
from search.views.web.site import Site

TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


def app_of(site: Site) -> Starlette:
    """Return the app with all of the site's pages."""
    routes = [route for page in site.pages for route in page.routes(site)]
    own = _own_files()

    async def send(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in own:
            return site.refused(request, 404, "there is no such file.")
        kind = f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8"
        kept = {**HEADERS, "Cache-Control": "max-age=3600"}
        return Response(own[name], headers={**kept, "Content-Type": kind})

    async def missing(request: Request, error: Exception) -> Response:
        return site.refused(request, 404, "there is no such page.")

    return Starlette(
        routes=[*routes, Route("/static/{name:path}", send)],
        middleware=[Middleware(Guarded, access=site.access)],
        exception_handlers={404: missing},
    )


def _own_files() -> dict[str, bytes]:
    """Return the scripts and styles of these pages, by the path below `static/`."""
    folder = files("search.views.web").joinpath("static")
    shared = {"dropped.js": text_of("dropped.js").encode()}
    return shared | {
        f"{prefix}{one.name}": one.read_bytes()
        for prefix, place in (("", folder), ("vendor/", folder.joinpath("vendor")))
        for one in place.iterdir()
        if one.is_file() and one.name.rpartition(".")[2] in TYPES
    }
