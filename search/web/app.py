"""The server's ASGI app: the pages and their static files, for authorised clients."""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from search.web.access import HEADERS, Guarded
from search.web.own_files import TYPES, own_files, static_address
from search.web.site import Site


def app_of(site: Site) -> Starlette:
    """Build the ASGI app with all pages of a site."""
    routes = [route for page in site.pages for route in page.routes(site)]
    own = own_files()

    async def send(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in own:
            return site.refused(request, 404, "there is no such file.")
        kind = f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8"
        cacheable = {**HEADERS, "Cache-Control": "max-age=31536000, immutable"}
        return Response(own[name], headers={**cacheable, "Content-Type": kind})

    async def missing(request: Request, error: Exception) -> Response:
        return site.refused(request, 404, "there is no such page.")

    return Starlette(
        routes=[*routes, Route(f"{static_address()}/{{name:path}}", send)],
        middleware=[Middleware(Guarded, access=site.access)],
        exception_handlers={404: missing},
    )
