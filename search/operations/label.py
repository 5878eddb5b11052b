"""A web page on which people give images their class.

The images are those that a served model has received, whose predictions are corrected, those of an
unsorted folder, or those of a folder with classes whose label is probably wrong.
"""

import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn
from markupsafe import escape
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount

from cluster.cli import cannot_listen
from cluster.storage.bucket import Bucket
from search.feedback.checking import CheckingQueue, SuspiciousImage
from search.feedback.labelling import LabellingQueue
from search.feedback.queue import ImageQueue, LabellingProgress
from search.feedback.records import Records, RecordsInfo, serve_and_record
from search.feedback.sorted_folder import class_names
from search.journal.store import Storage, own_path, storage
from search.operations.options import Listening
from search.operations.run_request import Reading
from search.process.versions import check_versions
from search.serving.limits import Limits
from search.serving.pages.guard import HEADERS, LOOPBACK, allowed_hosts
from search.serving.pages.label import routes
from search.serving.protocol import protocol
from search.values.message import Message
from search.values.option import flag, group, option, positional
from trainables.errors import ConfigError, counted
from trainables.tasks import TASKS

PORT = 8001
SORTING = "a folder of images"
"""The heading of the options for folders of images in the help."""
CONNECTIONS = 500
"""The maximum number of connections to the server of a page; each needs a file descriptor."""
END_S = 3
"""Seconds that open requests have to finish when the server of a page is stopped."""


@dataclass(frozen=True, kw_only=True)
class LabelRequest:
    """The images, and the address of the page."""

    place: Storage = positional(
        "the records of a served model (a folder, or s3://BUCKET/PREFIX), or a folder of images "
        "to sort by their class (or, with --suspicious, that are sorted)",
        metavar="PLACE",
        parse=storage,
    )
    classes: tuple[str, ...] | None = option(
        "the first classes; more can be added on the page",
        metavar="NAME,...",
        parse=class_names,
        text=",".join,
        section=SORTING,
    )
    out: Path | None = option(
        "where copies of the images are sorted by their class (default: PLACE-sorted)",
        metavar="FOLDER",
        parse=own_path,
        section=SORTING,
    )
    weights: Path | None = option(
        "pretrained weights, by whose features images are compared (default: those in torch's "
        "cache)",
        metavar="PATH",
        parse=own_path,
        section=SORTING,
    )
    suspicious: bool = flag(
        "check the labels of a folder with a sub-folder per class, the probably wrong ones first; "
        "corrections go to a file next to the folder",
        section=SORTING,
    )
    listening: Listening = group(Listening, defaults={"port": PORT})


@dataclass(frozen=True)
class LabellingPage:
    """The page on which the images of a queue are corrected, and its address."""

    labelling: ImageQueue
    app: Starlette
    listener: socket.socket
    host: str
    address: str
    """The URL. It contains the token without which all requests are refused."""

    @property
    def progress(self) -> LabellingProgress:
        """The number of images that have got their class, and the number that are left."""
        return self.labelling.progress

    @property
    def is_reachable(self) -> bool:
        """True if other machines can reach the page."""
        return self.host not in LOOPBACK and allowed_hosts(self.host) is None

    def serve(self) -> None:
        """Serve the page until SIGINT or SIGTERM, while a thread compares images for the queue."""
        stop = threading.Event()
        looking = threading.Thread(
            target=self.labelling.compare_images, args=[stop], name="looking", daemon=True
        )
        looking.start()
        # Without the timeout, a browser that keeps a connection open would delay the shutdown.
        config = uvicorn.Config(
            self.app,
            http=protocol(Limits(connections=CONNECTIONS)),
            ws="none",
            log_level="error",
            server_header=False,
            timeout_graceful_shutdown=END_S,
        )
        try:
            uvicorn.Server(config).run(sockets=[self.listener])
        finally:
            stop.set()
            looking.join()


@contextmanager
def label(request: LabelRequest) -> Iterator[LabellingPage]:
    """Open the page on which images are corrected; call its method `serve` to serve it.

    After a signal has ended `serve`, the page's `progress` still has the number of corrected
    images. The socket is closed at the end of the context.

    Raises:
        ConfigError: there are no records and no images in the place, or an option cannot be used.
        NotReady: the port is in use, or the host is not an address of this machine.
    """
    check_versions()
    labelling = labelling_of(request)
    host, port = request.listening.host, request.listening.port
    # Other users of this machine can reach the port too; only the token keeps them out.
    token = secrets.token_urlsafe(16)
    app = app_of(token, routes(labelling, allowed_hosts(host)))
    with listening(host, port) as listener:
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{listener.getsockname()[1]}/{token}/"
        yield LabellingPage(labelling, app, listener, host, address)


def labelling_of(request: LabelRequest) -> ImageQueue:
    """Open the queue of the images.

    Raises:
        ConfigError: there are no records and no images in the place, or an option cannot be used.
    """
    place = request.place
    if request.suspicious:
        return checking_of(request)
    if isinstance(place, Bucket):
        place.reach()
    records = Records.at(place)
    if (info := records.info) is not None:
        return labelling_of_records(records, info, request)
    if isinstance(place, Path) and place.is_dir() and has_images(place):
        return sorting_of(place, request)
    raise ConfigError(
        Message(
            f"there are no records of predictions in '{place}', and no images. To start a server "
            "that writes records: ",
            serve_and_record(place),
        )
    )


def labelling_of_records(
    records: Records, info: RecordsInfo, request: LabelRequest
) -> LabellingQueue:
    """Open the queue of recorded images.

    Raises:
        ConfigError: an option is for folders of images.
    """
    for name, value in (
        ("classes", request.classes),
        ("out", request.out),
        ("weights", request.weights),
    ):
        if value is not None:
            raise ConfigError(
                f"--{name} is for a folder of images, but '{request.place}' has the records of "
                f"{info.model}. Leave it out."
            )
    return LabellingQueue(records, info)


def has_images(folder: Path) -> bool:
    """True if there are images in a folder or its sub-folders."""
    from trainables.datasets.walk import walk

    return bool(walk(folder, folder.resolve()).all_images)


def sorting_of(folder: Path, request: LabelRequest) -> ImageQueue:
    """Open the queue of the images in a folder.

    Raises:
        ConfigError: an option cannot be used.
    """
    from search.feedback.sorting import sort_folder  # imports torch
    from trainables.datasets.sources import recognise_task

    whole = folder.resolve()
    if "feedback" not in TASKS[task := recognise_task("folder", str(whole))].can:
        raise ConfigError(
            f"'{folder}' is a data set for {TASKS[task].title}, whose targets cannot be corrected "
            "here. To sort its images into classes, pass the folder of the images alone."
        )
    if request.out is None and not whole.name:
        raise ConfigError(f"'{folder}' has no name. Choose where to sort its images with --out.")
    out = request.out or whole.with_name(f"{whole.name}-sorted")
    return sort_folder(folder, out, request.classes or (), request.weights)


def checking_of(request: LabelRequest) -> ImageQueue:
    """Open the queue of the images in a folder with classes whose label is probably wrong.

    Raises:
        ConfigError: the place is no such folder, an option is for other images, or no label is
            suspicious.
    """
    place = request.place
    if not isinstance(place, Path):
        raise ConfigError(
            f"--suspicious needs a folder of this machine, next to which corrections are stored "
            f"(got '{place}'). Copy the images to a folder, and pass that."
        )
    for name, value in (("classes", request.classes), ("out", request.out)):
        if value is not None:
            raise ConfigError(f"--{name} has no effect with --suspicious. Leave it out.")
    from search.operations.data import DataRequest, config_of, features_model, rank_folder
    from trainables.inspection.leaks import load_inspected

    config = config_of(DataRequest(data=f"folder:{place}", reading=Reading(skip_bad=True)))
    config = replace(config, val_limit=sys.maxsize)  # all images are to be checked
    model = features_model(config, request.weights, "--suspicious")
    inspected = load_inspected(config)
    ranked = rank_folder(inspected, config, model)
    suggestions, names = ranked.suggestions, ranked.classes
    images = [
        SuspiciousImage(
            inspected.places.file(int(ranked.numbers[row])),
            names[ranked.labels[row]],
            names[suggestions[row]],
            float(ranked.doubts.chances[row]),
            tuple(ranked.doubts.probabilities[row].tolist()),
        )
        for row in ranked.order
    ]
    if not images:
        raise ConfigError(
            f"no label of '{place}' is suspicious, so there is nothing to check "
            f"({counted(len(ranked.labels), 'image')})."
        )
    return CheckingQueue(place, names, images)


def listening(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    Raises:
        NotReady: the port is in use, or the host is not an address of this machine.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise cannot_listen(host, port, error) from error


def app_of(token: str, routes: list[BaseRoute]) -> Starlette:
    """Build an app with these routes below `/<token>`.

    A request without the token gets a 404 response, and its connection is closed.
    """

    async def missing(request: Request, error: Exception) -> Response:
        return PlainTextResponse("Not Found", 404, {**HEADERS, "Connection": "close"})

    return Starlette(routes=[Mount(f"/{token}", routes=routes)], exception_handlers={404: missing})


@contextmanager
def opened_in_browser(address: str, *, should_open: bool) -> Iterator[None]:
    """Open an address in the browser, if there is a display and `should_open`.

    The browser opens a private file that redirects to the address. Every user of the machine can
    read command lines, so the command line of the browser must not contain the token.
    """
    with TemporaryDirectory(prefix="search-page-") as folder:
        if should_open and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            path = Path(folder) / "open.html"
            refresh = f'<meta http-equiv="refresh" content="0;url={escape(address)}">'
            path.write_text(f"<!doctype html>{refresh}", encoding="utf-8")
            webbrowser.open(path.as_uri())
        yield
