"""The pages *Models* and *A model*: what was promoted, and what it says of images."""

import asyncio
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from cluster.errors import NotReady
from search.journal.result import moment
from search.serving.limits import Limits
from search.tracking.model_registry import RegisteredModel, Version, models_in
from search.views.web.forms.answers import Models
from search.views.web.forms.launch import Launcher, command_line
from search.views.web.forms.predicting import Prediction, earlier, model_address
from search.views.web.forms.wanted import place_options
from search.views.web.site import Site
from trainables.errors import ConfigError
from trainables.values import Json

NAV = ("Models", "/models")
LIMIT_S = 60.0
"""The longest that MLflow is waited for; to import it alone takes seconds on a busy machine."""
THREADS = 2
"""Those that wait for MLflow; where all do, others wait for them."""
MAX_BYTES = Limits().body_bytes + 100_000
"""The bytes of a form with images."""
MAX_IMAGES = 20
FIGURE = re.compile(r"\| (?P<title>[^|]+) \| (?P<text>[^|]+) \|")
Found = TypeVar("Found")


def routes(site: Site) -> list[BaseRoute]:
    """Return the pages' routes."""
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mlflow")
    models, launcher = Models(site.tracking), Launcher(site.place)
    site.ending.append(models.end)

    async def show(request: Request) -> Response:
        """Answer with the page, and where it is asked for, with the models, which take seconds."""
        if "list" not in request.query_params:
            return site.render(request, "models.html", is_whole=False)
        try:
            found, trouble = await in_time(threads, lambda: models_in(site.tracking)), ""
        except (NotReady, ConfigError, OSError) as error:
            found, trouble = [], str(error)
        rows = [(one, [shown(version) for version in one.versions]) for one in found]
        page = "models_list.html" if "hx-request" in request.headers else "models.html"
        return site.render(request, page, found=rows, trouble=trouble, is_whole=True)

    async def of(request: Request) -> RegisteredModel:
        name = request.path_params["name"]
        found = await in_time(threads, lambda: models_in(site.tracking, name))
        if not found:
            raise HTTPException(404, "there is no model of this name.")
        return found[0]

    async def one(request: Request) -> Response:
        return await whole(request, request.query_params.get("version", ""))

    async def whole(request: Request, number: str, answers: Sequence[Said] = ()) -> Response:
        model = await of(request)
        predictions = await run_in_threadpool(earlier, launcher, model.name)
        # Apart from the loop: what each has said is read.
        return await run_in_threadpool(
            model_page, request, site, model, number, predictions, answers
        )

    async def ask(request: Request, form: FormData) -> Response:
        uploads = [one for one in form.getlist("image") if isinstance(one, UploadFile)]
        if not 1 <= len([one for one in uploads if one.size]) <= MAX_IMAGES:
            raise HTTPException(400, f"choose an image, or up to {MAX_IMAGES}.")
        name, number = request.path_params["name"], str(form.get("version", ""))
        uri = model_address(name, number)
        answers = [await answered(models, uri, upload) for upload in uploads if upload.size]
        if "hx-request" in request.headers:
            return site.render(request, "model_answers.html", answers=answers)
        return await whole(request, number, answers)

    return [
        site.shows("/models", show),
        site.shows("/models/{name}", one),
        site.changes("/models/{name}/ask", ask, MAX_BYTES),
    ]


async def in_time(threads: ThreadPoolExecutor, call: Callable[[], Found]) -> Found:
    """Return what a call gives that asks MLflow, apart from the loop.

    Raises:
        NotReady: it takes too long; the thread goes on waiting.
    """
    waiting = asyncio.get_running_loop().run_in_executor(threads, call)
    try:
        return await asyncio.wait_for(waiting, LIMIT_S)
    except TimeoutError:
        raise NotReady(f"MLflow has not answered within {LIMIT_S:g} s. Try again later.") from None


@dataclass(frozen=True)
class Shown:
    """A version as the page shows it."""

    version: Version
    made: str
    figures: list[tuple[str, str]]
    """The table of its description: a title and a text each."""


def shown(version: Version) -> Shown:
    """Return a version as the page shows it."""
    rows = [row.groupdict() for row in FIGURE.finditer(version.description)]
    figures = [(row["title"].strip(), row["text"].strip()) for row in rows]
    return Shown(version, moment(version.made_ms), [row for row in figures if row[0]])


def model_page(
    request: Request,
    site: Site,
    model: RegisteredModel,
    number: str,
    predictions: Sequence[Prediction] = (),
    answers: Sequence["Said"] = (),
) -> Response:
    """Return the page of a model, of the version that is asked for, or else of the champion.

    Raises:
        HTTPException: it has no such version.
    """
    versions = [shown(one) for one in model.versions]
    named = [one for one in versions if one.version.number == number]
    champion = [one for one in versions if "champion" in one.version.aliases]
    chosen = named if number else champion or versions
    if not chosen:
        raise HTTPException(404, f"'{model.name}' has no such version.")
    address = model_address(model.name, chosen[0].version.number)
    options = [f"--{name}={value}" for name, value in place_options(site).items()]
    return site.render(
        request,
        "model.html",
        model=model,
        versions=versions,
        chosen=chosen[0],
        answers=answers,
        predictions=predictions,
        limit=MAX_IMAGES,
        command=command_line("serve", [address, *options]),
    )


@dataclass(frozen=True)
class Said:
    """The answer of a model to an image."""

    file: str
    told: Json
    bars: list[tuple[str, float]]
    """The most probable classes, with their probabilities."""

    @property
    def error(self) -> str:
        """The reason why it says nothing; empty if it does."""
        return str(self.told.get("error", ""))


async def answered(models: Models, uri: str, upload: UploadFile) -> Said:
    """Return what a model says of an image that was sent."""
    told = await models.ask(uri, await upload.read())
    bars = list(told.get("probabilities", {}).items())
    return Said(upload.filename or "an image", told, bars)
