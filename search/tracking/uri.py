"""The tracking URI of MLflow, and the check that MLflow can be written to."""

import os
import re
import socket
import sqlite3
import ssl
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from cluster.errors import NotReady
from cluster.secrets import redact
from search.design.experiment import absolute
from search.journal.result import SearchResult
from search.tracking.client import ask, sqlite_path
from trainables.errors import ConfigError, unknown

DEFAULT_TRACKING = "sqlite:///mlflow.db"
KINDS = ("sqlite", "http", "https", "postgresql", "mysql", "mssql")
UNTRIED = ("databricks", "databricks-uc", "uc")
"""Kinds of URI that MLflow supports, but this project does not, since it was not tested with them.

Databricks restricts the names of experiments.
"""
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
TRIES, TIMEOUT_S, LOGIN_TIMEOUT_S = 2, 3, 10
HOST_REFUSED = "Invalid Host header"


def uri_of(result: SearchResult, tracking: str | None) -> str:
    """Return the tracking URI: `tracking` if it is set, else the search's, else `default_uri`."""
    return str(tracking or result.started.experiment["tracking"] or default_uri())


def default_uri() -> str:
    """Return `MLFLOW_TRACKING_URI`, or else the file `mlflow.db` in the current folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING


def registry_uri(tracking: str | None) -> str:
    """Return the tracking URI for registered models, with an absolute path if it names a file.

    It is `tracking`, or the default if that is None. MLflow caches connections by their URI, so the
    same URI must not mean different files in different folders.
    """
    return absolute(tracking or default_uri())


def check_tracking(uri: str) -> None:
    """Check that MLflow can be written to at this tracking URI.

    Raises:
        ConfigError: the URI is invalid, its kind is not supported, or it is a SQLite URI that names
            no file.
        NotReady: the server does not respond, or rejects the login or the Host header; the SQLite
            file cannot be opened, or its folder is not writable.
    """
    try:
        parts = urlsplit(uri)
        address = (parts.hostname, parts.port)
    except ValueError as error:
        raise ConfigError(
            f"'{redact(uri)}' is not a tracking URI ({error}). Use --tracking sqlite:///mlflow.db "
            "or a server's http:// address."
        ) from error
    kind = parts.scheme.partition("+")[0]
    if (kind or uri) in UNTRIED:
        raise ConfigError(
            f"Databricks is not supported as a tracking server (got '{redact(uri)}'). Use "
            "--tracking sqlite:///mlflow.db or a server's http:// address."
        )
    if kind in ("", "file"):
        raise ConfigError(
            f"MLflow no longer supports a folder as the tracking URI (got '{uri}'). Use --tracking "
            "sqlite:///mlflow.db or a server's http:// address."
        )
    if kind not in KINDS:
        raise ConfigError(unknown("kind of tracking URI", kind, KINDS))
    if kind == "sqlite":
        if not re.match(r"[^/]+:///(?!:memory:)[^?]", uri):
            raise ConfigError(
                f"'{uri}' does not name a file, so no results would be stored. Use --tracking "
                "sqlite:///mlflow.db."
            )
        if "?" in uri:
            raise ConfigError(f"'{uri}' must not contain a '?'. Write it as %3F in --tracking.")
        folder = sqlite_path(uri).parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise NotReady(
                f"the folder '{folder}' of {uri} does not exist or is not writable. Create the "
                "folder, or use another --tracking."
            )
        _open_sqlite(uri)
    elif kind in ("http", "https"):
        _check(uri, lambda: _ask_health(uri))
        _check(uri, lambda: _log_in(uri))
    elif address[0]:
        place = (address[0], address[1] or PORTS[kind])
        _check(uri, lambda: socket.create_connection(place, timeout=TIMEOUT_S).close())


def _open_sqlite(uri: str) -> None:
    path = sqlite_path(uri)
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        raise NotReady(f"{uri} cannot be opened ({error}). Use another --tracking.") from error


def _check(uri: str, attempt: Callable[[], None]) -> None:
    import http.client

    reason = ""
    for _ in range(TRIES):
        try:
            return attempt()
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = redact(str(getattr(error, "reason", error)))[:300]
    raise NotReady(
        f"MLflow cannot be reached at {redact(uri)} ({reason}). Start it with 'mlflow server', or "
        "use --tracking sqlite:///mlflow.db."
    )


def _ask_health(uri: str) -> None:
    """Check that a server responds, with a request that sends no login.

    Raises:
        OSError: the server does not respond, or responds with an HTTP error other than 401 and 403.
    """
    # Imported here, as in `_check`, because commands that only print their help need no HTTP.
    import urllib.error
    import urllib.request

    parts = urlsplit(uri)
    plain = urlunsplit(parts._replace(netloc=_host(uri)))
    try:
        urllib.request.urlopen(
            plain.rstrip("/") + "/health", timeout=TIMEOUT_S, context=_tls()
        ).close()
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403):
            raise OSError(f"HTTP {error.code}") from error


def _log_in(uri: str) -> None:
    """Check that a server accepts the login of MLflow's client.

    Raises:
        NotReady: the server rejects the login or the Host header.
        OSError: the server does not respond, or responds with another HTTP error.
    """
    response = ask(uri, LOGIN_TIMEOUT_S)
    if response.status == 403 and HOST_REFUSED in response.text:
        remedy = "Add this host to the server's --allowed-hosts, or use an allowed address."
        raise NotReady(
            f"MLflow at {redact(uri)} refuses the Host header '{_host(uri)}' (403). {remedy}"
        )
    if response.status in (401, 403):
        remedy = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
        raise NotReady(f"MLflow at {redact(uri)} refuses this login ({response.status}). {remedy}")
    if response.status >= 400:
        raise OSError(f"HTTP {response.status}")


def _host(uri: str) -> str:
    """Return the host and port of a URI, without the login."""
    return urlsplit(uri).netloc.rpartition("@")[2]


def _tls() -> ssl.SSLContext:
    """Create a TLS context from the environment variables that MLflow's client reads."""
    own = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
    certificates = own or os.environ.get("REQUESTS_CA_BUNDLE") or None
    context = (
        ssl.create_default_context(capath=certificates)
        if certificates and Path(certificates).is_dir()
        else ssl.create_default_context(cafile=certificates)
    )
    if not own and os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
