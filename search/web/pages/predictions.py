"""The pages on which a person chooses a folder for a model, and sees the predictions for it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute

from search.feedback.pictures import MAX_SIDE, as_png
from search.web.access import HEADERS
from search.web.forms.launch import Launcher, refusal_of
from search.web.forms.predicting import Prediction, model_address, started_by
from search.web.listing import Query
from search.web.pages.data import open_listing
from search.web.predicted import NUMBER, Answers, PredictionCache
from search.web.site import Site
from trainables.errors import ConfigError

NAV = None
THREADS = 2
"""Number of threads that make thumbnails. It is small, since each may have to decode a large image.
"""
SIDE = 128
"""The longer side of a thumbnail, in pixels."""
VISIBLE = 30
"""Number of classes that are visible at first; a click shows the others."""
MAX_NAMED = 200
"""Maximum number of unreadable files that are listed; the last ones are listed."""


def routes(site: Site) -> list[BaseRoute]:
    """Build the routes of the choice of a folder, of the start, and of the result."""
    launcher, cache = Launcher(site.place), PredictionCache()
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="pictures")

    async def prediction_and_answers(request: Request) -> tuple[Prediction, Path, Answers]:
        prediction, file = await run_in_threadpool(ended, launcher, request.path_params["id"])
        return prediction, file, await cache.of(file, prediction.folder)

    async def choose(request: Request) -> Response:
        params = request.query_params
        return await folder_page(request, site, params.get("version", ""), params.get("folder", ""))

    async def start(request: Request, form: FormData) -> Response:
        name = request.path_params["name"]
        number, folder = str(form.get("version", "")), str(form.get("folder", "")).strip()
        model_address(name, number)
        try:
            started = await run_in_threadpool(started_by, name, number, folder, site, launcher)
        except ConfigError as error:
            return await folder_page(request, site, number, folder, str(error))
        if refused := await refusal_of(started):
            return await folder_page(request, site, number, folder, str(refused))
        return RedirectResponse(f"/started/{started.id}", 303)

    async def show(request: Request) -> Response:
        prediction, _, answers = await prediction_and_answers(request)
        return await run_in_threadpool(results_page, request, site, prediction, answers)

    async def table(request: Request) -> Response:
        prediction, file = await run_in_threadpool(ended, launcher, request.path_params["id"])
        kind = {"Content-Type": "text/csv; charset=utf-8"}
        sent = {"Content-Disposition": f'attachment; filename="{prediction.file_name}"'}
        return FileResponse(file, headers={**HEADERS, **kind, **sent})

    async def image(request: Request) -> Response:
        _, _, answers = await prediction_and_answers(request)
        file = answers.paths.get(request.path_params["number"], "")
        loop = asyncio.get_running_loop()
        content = await loop.run_in_executor(threads, small, file, site.data_root)
        return Response(content, headers={**HEADERS, "Content-Type": "image/png"})

    async def overlay(request: Request) -> Response:
        prediction, _, answers = await prediction_and_answers(request)
        file = prediction.overlay(answers.paths.get(request.path_params["number"], ""))
        side = MAX_SIDE if "large" in request.query_params else SIDE
        loop = asyncio.get_running_loop()
        path, folder = str(file or ""), prediction.launched.folder
        content = await loop.run_in_executor(threads, small, path, folder, side)
        return Response(content, headers={**HEADERS, "Content-Type": "image/png"})

    return [
        site.shows("/models/{name}/folder", choose),
        site.changes("/models/{name}/folder", start),
        site.shows("/predictions/{id}", show),
        site.shows("/predictions/{id}/answers.csv", table),
        site.shows("/predictions/{id}/images/{number:int}", image),
        site.shows("/predictions/{id}/overlays/{number:int}", overlay),
    ]


def ended(launcher: Launcher, name: str) -> tuple[Prediction, Path]:
    """Find finished predictions, and the CSV file that contains them.

    Args:
        launcher: finds commands that pages have started.
        name: the id of the command (`Launched.id`).

    Raises:
        HTTPException: there is no such command, or it has no result yet.
    """
    launched = launcher.find(name)
    file = None if launched is None else launched.result
    if launched is None or file is None:
        raise HTTPException(
            404,
            f"there are no finished predictions with the id '{name[:80]}'. If they were started "
            "only now, try again later.",
        )
    return Prediction(launched), file


async def folder_page(
    request: Request, site: Site, number: str, folder: str, refused: str = ""
) -> Response:
    """Render the page on which a person chooses a folder for a model.

    Args:
        request: the request, whose path names the model.
        site: the objects that all pages share.
        number: the version of the model.
        folder: the folder that was chosen before; empty at first.
        refused: the reason of a refusal; empty if there was none.
    """
    name = request.path_params["name"]
    model_address(name, number)
    at = request.query_params.get("at", "") or folder
    listing, trouble = await run_in_threadpool(open_listing, at, site)
    if listing is None:  # list the root or the home folder, so that a folder can be chosen
        listing, _ = await run_in_threadpool(open_listing, "", site)
    error = refused or trouble
    return site.render(
        request,
        "folder.html",
        400 if error else 200,
        name=name,
        version=number,
        typed=folder or (str(listing.path) if listing else ""),
        listing=listing,
        error=error,
    )


def results_page(
    request: Request, site: Site, prediction: Prediction, answers: Answers
) -> Response:
    """Render the page with the predictions for a folder's files."""
    unread = prediction.unread
    return site.render(
        request,
        "predictions.html",
        prediction=prediction,
        answers=answers,
        table=answers.table(Query.of(request.query_params)),
        number=NUMBER,
        visible=VISIBLE,
        unread=unread[-MAX_NAMED:],
        is_cut=len(unread) > MAX_NAMED,
        has_unread=prediction.launched.code != 0,
        notes=prediction.notes,
    )


def small(file: str, root: Path | None, side: int = SIDE) -> bytes:
    """Make a thumbnail of an image file, as PNG.

    Args:
        file: the path of the file; empty if it is not known.
        root: the folder that must contain the file; None allows any.
        side: the longer side of the result, in pixels.

    Raises:
        HTTPException: there is no such file, or it is outside `root`.
    """
    path = Path(file).resolve()  # resolved once, so that the checked path is the opened one
    is_there = bool(file) and path.is_file()
    if not is_there or not (root is None or path.is_relative_to(root.resolve())):
        raise HTTPException(404, "there is no such image.")
    return as_png(path, side)
