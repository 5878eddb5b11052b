"""python -m search.label PLACE: a page on which images that a model has met are corrected.

PLACE is where python -m search.serve keeps what it meets (--record): a folder, or
s3://BUCKET/PREFIX. The most useful images come first: those on which answers disagree, those of
which the model is not sure, and those unlike any other. All is done by keys. "Right as it is" is
kept too: it counts as much as a correction.
"""

import argparse
import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn
from markupsafe import escape
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount

from cluster.cli import Parser, cannot_listen, port
from cluster.storage.bucket import Bucket
from search.cli.parser import HelpFormatter
from search.feedback.labelling import LabellingQueue
from search.feedback.records import Records, serve_and_record
from search.journal.store import storage
from search.process.guard import guarded
from search.process.versions import check_versions
from search.serving.limits import Limits
from search.serving.pages.guard import HEADERS, LOOPBACK, allowed_hosts
from search.serving.pages.label import routes
from search.serving.protocol import protocol
from search.values.message import Message
from search.views.terminal import Terminal, say
from trainables.errors import ConfigError, counted

PORT = 8001
CONNECTIONS = 500
"""The maximum number of connections to a server of pages; each needs a file descriptor."""
END_S = 3
"""Seconds that open requests may still take when a server of pages is stopped."""


def labelling_of(args: argparse.Namespace) -> LabellingQueue:
    """Open the queue of images to correct.

    Raises:
        ConfigError: there are no records in the place.
    """
    if isinstance(args.place, Bucket):
        args.place.reach()
    records = Records.at(args.place)
    if (info := records.info) is None:
        raise ConfigError(
            Message(
                f"there are no records in '{args.place}'. `",
                serve_and_record(args.place),
                "` keeps some.",
            )
        )
    return LabellingQueue(records, info)


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


def command(args: argparse.Namespace) -> int:
    """Serve the page until it is stopped, and return the exit code."""
    check_versions()
    console = Terminal()
    labelling = labelling_of(args)
    progress = labelling.progress
    # Other users of this machine can reach the port too; only the token keeps them out.
    token = secrets.token_urlsafe(16)
    app = app_of(token, routes(labelling, allowed_hosts(args.host)))
    with listening(args.host, args.port) as listener:
        host = f"[{args.host}]" if ":" in args.host else args.host
        address = f"http://{host}:{listener.getsockname()[1]}/{token}/"
        images = counted(progress.left, "image")
        say(console, f"{labelling.info.model}: {images} to correct, {progress.corrected} corrected")
        say(console, f"label at {address} (Ctrl-C ends it)")
        if args.host not in LOOPBACK and allowed_hosts(args.host) is None:
            say(console, "note: whoever is told that address can see the images and correct them")
        try:
            with opened_in_browser(address, should_open=args.browser):
                serve(app, labelling, listener)
        finally:
            say(console, f"{counted(labelling.progress.here, 'image')} corrected")
    return 0


def app_of(token: str, routes: list[BaseRoute]) -> Starlette:
    """Build an app with these routes below `/<token>`; a request without the token gets a 404.

    The connection is then closed.
    """

    async def missing(request: Request, error: Exception) -> Response:
        return PlainTextResponse("Not Found", 404, {**HEADERS, "Connection": "close"})

    return Starlette(routes=[Mount(f"/{token}", routes=routes)], exception_handlers={404: missing})


@contextmanager
def opened_in_browser(address: str, *, should_open: bool) -> Iterator[None]:
    """Open an address in the browser, if there is a display and `should_open`.

    The browser opens a private file that redirects to the address. Every user of the machine can
    read command lines, so the browser's must not contain the token.
    """
    with TemporaryDirectory(prefix="search-page-") as folder:
        if should_open and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            path = Path(folder) / "open.html"
            refresh = f'<meta http-equiv="refresh" content="0;url={escape(address)}">'
            path.write_text(f"<!doctype html>{refresh}", encoding="utf-8")
            webbrowser.open(path.as_uri())
        yield


def serve(app: Starlette, labelling: LabellingQueue, listening: socket.socket) -> None:
    """Serve the app until SIGINT or SIGTERM; meanwhile, a thread compares images for the queue."""
    stop = threading.Event()
    looking = threading.Thread(
        target=labelling.compare_images, args=[stop], name="looking", daemon=True
    )
    looking.start()
    # Without the time-out, a browser that keeps a connection open would delay the end.
    config = uvicorn.Config(
        app,
        http=protocol(Limits(connections=CONNECTIONS)),
        ws="none",
        log_level="error",
        server_header=False,
        timeout_graceful_shutdown=END_S,
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        stop.set()
        looking.join()


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, serve the page, and return the exit code (see `ExitCode`)."""
    parser = Parser(
        prog="python -m search.label", description=__doc__, formatter_class=HelpFormatter
    )
    parser.add_argument(
        "place", type=storage, metavar="PLACE", help="the records: a folder, or s3://BUCKET/PREFIX"
    )
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where it listens")
    parser.add_argument(
        "--port", type=port, default=PORT, metavar="N", help="its port; 0 takes a free one"
    )
    parser.add_argument(
        "--no-browser", action="store_false", dest="browser", help="open no browser"
    )
    args = parser.parse_args(argv)
    return guarded(lambda: command(args))
