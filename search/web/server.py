"""The process of `search.ui`, which serves the web pages."""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import uvicorn

from cluster.storage.bucket import Bucket
from search.journal.store import Storage, own_path
from search.operations.label import CONNECTIONS, END_S, listening, opened_in_browser
from search.operations.options import Listening, storage_option
from search.process.versions import check_versions
from search.serving.limits import Limits
from search.serving.pages.guard import allowed_hosts
from search.serving.protocol import protocol
from search.tracking.uri import DEFAULT_TRACKING, default_uri
from search.values.option import flag, group, option
from search.views.terminal import Terminal, say
from search.web.access import TOKEN, Access
from search.web.app import app_of
from search.web.site import Page, Site
from trainables.errors import ConfigError

PORT = 8420
MIN_TOKEN = 16
TOKEN_VARIABLE = "SEARCH_UI_TOKEN"


def token(text: str) -> str:
    """Check a token that a user has chosen, and return it.

    Raises:
        ConfigError: the text is shorter than `MIN_TOKEN`, or contains a space or a character that
            is not printable ASCII.
    """
    if len(text) < MIN_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigError(
            f"a token must have at least {MIN_TOKEN} ASCII letters, digits and punctuation marks, "
            "without spaces"
        )
    return text


def token_of_environment() -> str:
    """Return the token in the environment variable `TOKEN_VARIABLE`; empty if it is not set.

    Raises:
        ConfigError: the token is invalid (see `token`).
    """
    text = os.environ.get(TOKEN_VARIABLE, "")
    try:
        return token(text) if text else ""
    except ConfigError as error:
        raise ConfigError(f"${TOKEN_VARIABLE}: {error}.") from error


@dataclass(frozen=True, kw_only=True)
class UiRequest:
    """The searches that the pages show, and the address at which they are served."""

    storage: Storage = storage_option()
    tracking: str | None = option(
        f"MLflow's tracking URI (default: $MLFLOW_TRACKING_URI, else {DEFAULT_TRACKING})",
        metavar="URI",
    )
    address: Listening = group(Listening, defaults={"port": PORT})
    token: str | None = option(
        f"the token (default: a new one); it is safer in ${TOKEN_VARIABLE}, because all users of "
        "the machine can see command lines",
        metavar="TEXT",
        parse=token,
    )
    data_root: Path | None = option(
        "forms may only refer to folders of images below this one (default: any folder on this "
        "machine)",
        metavar="DIR",
        parse=own_path,
    )
    browser: bool = flag("do not open a browser", default=True, name="no-browser")


def serve_pages(request: UiRequest, pages: Sequence[Page]) -> None:
    """Serve pages on the searches of a storage until the process is stopped.

    Raises:
        ConfigError: --data-root is missing although other machines can reach the server, or is not
            a folder.
    """
    check_versions()
    console = Terminal()
    if isinstance(request.storage, Bucket):
        request.storage.reach()
    host = request.address.host
    is_own = allowed_hosts(host) is not None
    if not is_own and request.data_root is None:
        raise ConfigError(
            f"with --host {host}, other machines can reach this server. Pass --data-root DIR, "
            "the folder that contains the images that these machines may use."
        )
    if request.data_root is not None and not request.data_root.is_dir():
        raise ConfigError(
            f"--data-root '{request.data_root}' is not an existing folder. Pass the folder that "
            "contains the images."
        )
    site = Site(
        request.storage,
        request.tracking or default_uri(),
        Access(host, request.token or token_of_environment()),
        pages,
        request.data_root,
    )
    with listening(host, request.address.port) as listener:
        place = f"{name_of(host)}:{listener.getsockname()[1]}"
        address = f"http://{place}/?{TOKEN}={site.access.token}"
        say(
            console,
            f"the searches in {request.storage} are shown at {address} (press Ctrl-C to end the "
            "server)",
        )
        if not is_own:
            say(
                console,
                "note: everyone who has this address can start and stop searches, just like you",
            )
        config = uvicorn.Config(
            app_of(site),
            http=protocol(Limits(connections=CONNECTIONS)),
            ws="none",
            log_level="error",
            server_header=False,
            timeout_graceful_shutdown=END_S,
        )
        with opened_in_browser(address, should_open=request.browser):
            _Server(config, site).run(sockets=[listener])


def name_of(host: str) -> str:
    """Return the host part of the URL of a server that listens at `host`.

    0.0.0.0 and :: are replaced by the name of this machine, and IPv6 addresses are put in brackets.
    """
    with suppress(ValueError):
        if ip_address(host).is_unspecified:
            return socket.gethostname()
    return f"[{host}]" if ":" in host else host


class _Server(uvicorn.Server):
    """A server that can shut down while pages are open, and also ends the processes of pages."""

    def __init__(self, config: uvicorn.Config, site: Site) -> None:
        super().__init__(config)
        self.site = site

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams of open pages, then the processes of pages, then the server."""
        self.site.feed.end()
        for end in self.site.ending:
            await end()
        await super().shutdown(sockets)
