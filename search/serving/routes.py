"""Routes that describe the server: its state, its metrics, its API and its documentation."""

import hashlib
import json
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from search.serving.inputs import TYPES

if TYPE_CHECKING:
    from search.serving.app import App

PAGE = Path(__file__).with_name("docs.html")
ERRORS = {
    "400": "The request is not valid",
    "403": "The request is from a page of another site, or uses a host name of another server",
    "408": "The request arrived too slowly",
    "413": "The request is too large, or has too many images or pixels",
    "415": "The Content-Type is not supported",
    "422": "An image cannot be read",
    "503": "Too many images are waiting: try again after the number of seconds in Retry-After",
}


def routes(app: "App") -> list[BaseRoute]:
    """Build the routes for `GET`: state, version, metrics, OpenAPI document and documentation."""

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", **describe_state(app)})

    async def ready(request: Request) -> Response:
        return JSONResponse({"ready": True, **describe_state(app)})

    async def version(request: Request) -> Response:
        return JSONResponse({"model": app.name, "version": app.versions.current.version})

    async def ping(request: Request) -> Response:
        return Response("\n", media_type="application/json")

    async def metrics(request: Request) -> Response:
        app.measure()
        return Response(app.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(request: Request) -> Response:
        return JSONResponse(describe_api(app))

    async def docs(request: Request) -> Response:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"), headers=_page_headers())

    pages = {
        "/health": health,
        "/ready": ready,
        "/version": version,
        "/ping": ping,
        "/metrics": metrics,
        "/openapi.json": openapi,
        "/docs": docs,
    }
    return [Route(path, page, methods=["GET"]) for path, page in pages.items()]


def describe_state(app: "App") -> dict[str, Any]:
    """Describe this process: version in use, last refused version, recorder and second model."""
    current, refused = app.versions.current, app.versions.refused
    state: dict[str, Any] = {
        "model": app.name,
        "version": current.version,
        "engine": current.runtime.engine,
        "threads": current.runtime.threads,
        "largest_batch": current.largest_batch,
        "refused": None if refused is None else {"version": refused[0], "reason": refused[1]},
    }
    if (recorder := app.recorder) is not None:
        state["recording"] = {
            "problem": recorder.problem or None,
            "written": recorder.counts.written,
            "lost": recorder.counts.lost,
        }
    if app.shadow is not None:
        served = app.shadow.served
        state["shadow"] = {
            "version": None if served is None else served.version,
            "images": int(app.metrics.value("serving_shadow_images_total")),
            "differ": int(app.metrics.value("serving_shadow_differences_total")),
        }
    return state


@cache
def _page_headers() -> dict[str, str]:
    """Build headers that allow the documentation page to load only its own style."""
    style = PAGE.read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return {
        "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
    }


def describe_api(app: "App") -> dict[str, Any]:
    """Describe the server's API as an OpenAPI document."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    image = {"type": "string", "contentEncoding": "base64"}
    images = {"type": "object", "properties": {"images": {"type": "array", "items": image}}}
    files = {"type": "object", "additionalProperties": {"type": "string", "format": "binary"}}
    errors = {code: {"description": text} for code, text in ERRORS.items()}
    tensors = {"type": "object", "properties": {"inputs": {"type": "array"}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": app.name, "version": app.versions.current.version},
        "paths": {
            "/predict": {
                "post": {
                    "summary": f"Predictions of the model for images ({TYPES})",
                    "parameters": [
                        {"name": "top", "in": "query", "schema": {"type": "integer", "minimum": 1}}
                    ],
                    "requestBody": {
                        "content": {
                            "image/*": binary,
                            "multipart/form-data": {"schema": files},
                            "application/json": {"schema": images},
                            "application/x-npy": binary,
                        }
                    },
                    "responses": {"200": {"description": "A prediction for each image"}, **errors},
                }
            },
            "/explain": {
                "post": {
                    "summary": "A map of the pixels that support the class of one image",
                    "requestBody": {"content": {"image/*": binary}},
                    "responses": {"200": {"description": "The map, and its verdict"}, **errors},
                }
            },
            "/invocations": {
                "post": {
                    "summary": "Predictions in the format of MLflow's scoring server",
                    "requestBody": {"content": {"application/json": {"schema": tensors}}},
                    "responses": {"200": {"description": "A row for each image"}, **errors},
                }
            },
            **{
                path: {"get": {"summary": text, "responses": {"200": {"description": "OK"}}}}
                for path, text in {
                    "/health": "State of the server: the version, engine and recording",
                    "/ready": "Readiness of the server, and the last refused version",
                    "/version": "Version in use",
                    "/metrics": "Metrics for Prometheus",
                }.items()
            },
        },
    }


async def _as_json(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text, headers = str(error.detail), dict(error.headers or {})
    if error.status_code == 404 and request.url.path in ("/predict", "/invocations", "/explain"):
        error.status_code, text, headers = 405, "Method Not Allowed: use POST", {"Allow": "POST"}
    body = json.dumps({"error": text}) + "\n"
    return Response(body, error.status_code, headers, media_type="application/json")


HANDLERS: Any = {HTTPException: _as_json}
"""Handlers that answer Starlette's own errors as JSON."""
