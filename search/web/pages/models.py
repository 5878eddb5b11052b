"""The page *Models*, and a page for each registered model, which predicts uploaded images."""

import asyncio
import base64
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
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
from search.web.forms.answers import Models
from search.web.forms.launch import Launcher, command_line
from search.web.forms.new_search import place_options
from search.web.forms.predicting import Prediction, earlier, model_address
from search.web.site import Site
from trainables.datasets.arrays import SIXTEEN_BITS
from trainables.datasets.images import DEPTHS, decode_opened, open_image
from trainables.errors import ConfigError
from trainables.export.model import class_of_task
from trainables.predictors.base import encode_png
from trainables.tasks import TASKS
from trainables.values import Json

NAV = ("Models", "/models")
LIMIT_S = 60.0
"""Maximum seconds to wait for MLflow; its import already takes seconds on a busy machine."""
THREADS = 2
"""Number of threads that wait for MLflow."""
MAX_BYTES = Limits().body_bytes + 100_000
"""Maximum size in bytes of a form with images."""
MOST_SIDE = 1600
"""About the longest side, in pixels, of the picture of an image with boxes."""
MAX_IMAGES = 20
"""Maximum number of images in a form."""
FIGURE = re.compile(r"\| (?P<title>[^|]+) \| (?P<text>[^|]+) \|")
"""Pattern of a row of the Markdown table in the description of a version."""
Value = TypeVar("Value")


def routes(site: Site) -> list[BaseRoute]:
    """Build the routes of the list of models, of a model, and of predictions for uploads."""
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mlflow")
    models, launcher = Models(site.tracking), Launcher(site.place)
    site.ending.append(models.end)

    async def show(request: Request) -> Response:
        """Render the page. The models are listed only if the query has `list`.

        Listing takes seconds. So the page is first shown without the list, which it then requests.
        """
        if "list" not in request.query_params:
            return site.render(request, "models.html", is_whole=False)
        try:
            registered, trouble = await in_time(threads, lambda: models_in(site.tracking)), ""
        except (NotReady, ConfigError, OSError) as error:
            registered, trouble = [], str(error)
        rows = [
            (model, [version_row(version) for version in model.versions]) for model in registered
        ]
        page = "models_list.html" if "hx-request" in request.headers else "models.html"
        return site.render(request, page, rows=rows, trouble=trouble, is_whole=True)

    async def of(request: Request) -> RegisteredModel:
        name = request.path_params["name"]
        registered = await in_time(threads, lambda: models_in(site.tracking, name))
        if not registered:
            raise HTTPException(404, f"there is no registered model '{name[:80]}'.")
        return registered[0]

    async def show_model(request: Request) -> Response:
        return await whole(request, request.query_params.get("version", ""))

    async def whole(request: Request, number: str, answers: Sequence[ImageAnswer] = ()) -> Response:
        model = await of(request)
        predictions = await run_in_threadpool(earlier, launcher, model.name)
        # The page is rendered in a thread, since it reads the log of each earlier prediction.
        return await run_in_threadpool(
            model_page, request, site, model, number, predictions, answers
        )

    async def ask(request: Request, form: FormData) -> Response:
        uploads = [upload for upload in form.getlist("image") if isinstance(upload, UploadFile)]
        count = len([upload for upload in uploads if upload.size])
        if not 1 <= count <= MAX_IMAGES:
            raise HTTPException(400, f"choose 1 to {MAX_IMAGES} images (got {count}).")
        name, number = request.path_params["name"], str(form.get("version", ""))
        uri = model_address(name, number)
        answers = [await ask_about(models, uri, upload) for upload in uploads if upload.size]
        if "hx-request" in request.headers:
            return site.render(request, "model_answers.html", answers=answers)
        return await whole(request, number, answers)

    return [
        site.shows("/models", show),
        site.shows("/models/{name}", show_model),
        site.changes("/models/{name}/ask", ask, MAX_BYTES),
    ]


async def in_time(threads: ThreadPoolExecutor, call: Callable[[], Value]) -> Value:
    """Run a call to MLflow in a thread, and return its result.

    Raises:
        NotReady: the call takes longer than `LIMIT_S`; its thread continues.
    """
    waiting = asyncio.get_running_loop().run_in_executor(threads, call)
    try:
        return await asyncio.wait_for(waiting, LIMIT_S)
    except TimeoutError:
        raise NotReady(f"MLflow has not answered within {LIMIT_S:g} s. Try again later.") from None


@dataclass(frozen=True)
class VersionRow:
    """A version of a model, as the page shows it."""

    version: Version
    registered_at: str
    figures: list[tuple[str, str]]
    """The rows of the table in the version's description, as (title, text)."""


def version_row(version: Version) -> VersionRow:
    """Build the row of a version, with the figures that its description contains."""
    rows = [row.groupdict() for row in FIGURE.finditer(version.description)]
    figures = [(row["title"].strip(), row["text"].strip()) for row in rows]
    return VersionRow(version, moment(version.made_ms), [row for row in figures if row[0]])


def model_page(
    request: Request,
    site: Site,
    model: RegisteredModel,
    number: str,
    predictions: Sequence[Prediction] = (),
    answers: Sequence["ImageAnswer"] = (),
) -> Response:
    """Render the page of a model.

    Args:
        request: the request.
        site: the objects that all pages share.
        model: the model.
        number: the version to show; if empty, the champion or, without one, the newest version.
        predictions: earlier predictions on folders.
        answers: the replies to uploaded images.

    Raises:
        HTTPException: the model has no such version.
    """
    versions = [version_row(version) for version in model.versions]
    matching = [row for row in versions if row.version.number == number]
    champion = [row for row in versions if "champion" in row.version.aliases]
    chosen = matching if number else champion or versions
    if not chosen:
        missing = f"version {number[:40]}" if number else "versions"
        raise HTTPException(404, f"the model '{model.name}' has no {missing}.")
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
class ImageAnswer:
    """The reply of a model to an uploaded image."""

    file: str
    """The name of the file."""
    reply: Json
    """The reply of `Models.ask`."""
    bars: list[tuple[str, float]]
    """The most probable classes, as (class, probability); empty after an error."""
    boxed: str = ""
    """The image with its boxes as a PNG in base64; empty if the model predicts no boxes."""

    @property
    def error(self) -> str:
        """The reason why there is no prediction; empty if there is one."""
        return str(self.reply.get("error", ""))

    @property
    def mask(self) -> str:
        """The predicted mask as a PNG in base64; empty if the model predicts no masks."""
        return self._picture("mask")

    @property
    def enlarged(self) -> str:
        """The enlarged image as a PNG in base64; empty if the model does not enlarge images."""
        return self._picture("image")

    def _picture(self, key: str) -> str:
        prediction = self.reply.get("prediction")
        return str(prediction.get(key, "")) if isinstance(prediction, dict) else ""


async def ask_about(models: Models, uri: str, upload: UploadFile) -> ImageAnswer:
    """Let a model predict an uploaded image.

    Args:
        models: the loaded models.
        uri: the URI of the model's version, such as `models:/flowers/3`.
        upload: the image file.
    """
    content = await upload.read()
    reply = await models.ask(uri, content)
    bars = list(reply.get("probabilities", {}).items())
    boxed = await run_in_threadpool(_draw, content, reply.get("prediction"))
    return ImageAnswer(upload.filename or "an image", reply, bars, boxed)


def _draw(content: bytes, prediction: Any) -> str:
    """Draw a prediction on its image, if the model's task does that; else the result is empty.

    Returns:
        A PNG in base64.
    """
    draw = next(filter(None, (class_of_task(task).drawing(prediction) for task in TASKS)), None)
    if draw is None:
        return ""
    with open_image(content) as image:
        levels = SIXTEEN_BITS if image.mode in DEPTHS else (0, 255)
        pixels = decode_opened(image, None, "RGB", levels)[0]
    step = 1 + max(pixels.shape) // MOST_SIDE
    drawn = draw(np.ascontiguousarray(pixels[::step, ::step]), step)
    return base64.b64encode(encode_png(drawn)).decode()
