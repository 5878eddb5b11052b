"""python -m search.ui: web pages on all searches of a place: see them, start them, steer them.

The address that is printed has a token: whoever has it may do here what you may. It listens on this
machine alone, unless --host says otherwise.
"""

import argparse
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address

import uvicorn

from cluster.cli import Parser, port
from cluster.storage.bucket import Bucket
from search.cli.options import place_option
from search.cli.parser import HelpFormatter
from search.journal.store import own_path
from search.operations.label import CONNECTIONS, END_S, listening, opened_in_browser
from search.process.guard import guarded
from search.process.versions import check_versions
from search.serving.limits import Limits
from search.serving.pages.guard import allowed_hosts
from search.serving.protocol import protocol
from search.tracking.uri import DEFAULT_TRACKING, default_uri
from search.views.terminal import Terminal, say
from search.web.access import TOKEN, Access
from search.web.app import app_of
from search.web.pages.registry import PAGES
from search.web.site import Site
from trainables.errors import ConfigError

PORT = 8420
MIN_TOKEN = 16
TOKEN_VARIABLE = "SEARCH_UI_TOKEN"


def command(args: argparse.Namespace) -> int:
    """Serve the pages until the process is stopped, and return the exit code.

    Raises:
        ConfigError: --data-root is missing although other machines can reach the server, or is not
            a folder.
    """
    check_versions()
    console = Terminal()
    if isinstance(args.storage, Bucket):
        args.storage.reach()
    is_own = allowed_hosts(args.host) is not None
    if not is_own and args.data_root is None:
        raise ConfigError(
            f"--host {args.host}: other machines reach it there. Say with --data-root DIR below "
            "which folder the images lie that they may name."
        )
    if args.data_root is not None and not args.data_root.is_dir():
        raise ConfigError(f"--data-root '{args.data_root}': there is no such folder.")
    site = Site(
        args.storage, args.tracking, Access(args.host, args.token or ""), PAGES, args.data_root
    )
    with listening(args.host, args.port) as listener:
        address = (
            f"http://{name_of(args.host)}:{listener.getsockname()[1]}/?{TOKEN}={site.access.token}"
        )
        say(console, f"searches in {args.storage}: {address} (Ctrl-C ends it)")
        if not is_own:
            say(console, "note: whoever is told that address can start and stop searches as you")
        config = uvicorn.Config(
            app_of(site),
            http=protocol(Limits(connections=CONNECTIONS)),
            ws="none",
            log_level="error",
            server_header=False,
            timeout_graceful_shutdown=END_S,
        )
        with opened_in_browser(address, should_open=args.browser):
            _Server(config, site).run(sockets=[listener])
    return 0


def name_of(host: str) -> str:
    """Host for the URL of a server that listens at `host`.

    This machine's name stands for 0.0.0.0 and ::, and IPv6 addresses get brackets.
    """
    with suppress(ValueError):
        if ip_address(host).is_unspecified:
            return socket.gethostname()
    return f"[{host}]" if ":" in host else host


class _Server(uvicorn.Server):
    """A server that ends even if pages are open, and also ends the processes that serve them."""

    def __init__(self, config: uvicorn.Config, site: Site) -> None:
        super().__init__(config)
        self.site = site

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the pages' feed, then the processes that serve the pages, then the server."""
        self.site.feed.end()
        for end in self.site.ending:
            await end()
        await super().shutdown(sockets)


def token(text: str) -> str:
    """Parse an option's value as a token.

    Raises:
        argparse.ArgumentTypeError: the text is shorter than `MIN_TOKEN`, or has a space or a
            character that is not printable ASCII.
    """
    if len(text) < MIN_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
        raise argparse.ArgumentTypeError(
            f"at least {MIN_TOKEN} letters, digits and signs without a space"
        )
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, serve the pages, and return the exit code (see `ExitCode`)."""
    parser = Parser(prog="python -m search.ui", description=__doc__, formatter_class=HelpFormatter)
    place_option(parser)
    parser.add_argument(
        "--tracking",
        default=default_uri(),
        metavar="URI",
        help=f"MLflow's tracking URI (default: $MLFLOW_TRACKING_URI, else {DEFAULT_TRACKING})",
    )
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where it listens")
    parser.add_argument(
        "--port", type=port, default=PORT, metavar="N", help="its port; 0 takes a free one"
    )
    parser.add_argument(
        "--token",
        type=token,
        default=os.environ.get(TOKEN_VARIABLE) or None,
        metavar="TEXT",
        help=f"the token; better in ${TOKEN_VARIABLE}, since everybody on the machine sees command "
        "lines; default: a new one",
    )
    parser.add_argument(
        "--data-root",
        type=own_path,
        metavar="DIR",
        help="forms may name folders of images below it alone; default: any, on this machine",
    )
    parser.add_argument(
        "--no-browser", action="store_false", dest="browser", help="open no browser"
    )
    args = parser.parse_args(argv)
    return guarded(lambda: command(args))


if __name__ == "__main__":
    raise SystemExit(main())
