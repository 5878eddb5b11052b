"""MLflow's client, its environment variables, and a request to check a server.

The client reads its login from environment variables (`MLFLOW_TRACKING_USERNAME` and
`MLFLOW_TRACKING_PASSWORD`, or a token) or from `~/.mlflow/credentials`. This project never stores
the login.
"""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from mlflow import MlflowClient

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Environment variables that restrict MLflow.

They turn off:

- telemetry, pickles and progress bars;
- retries by MLflow itself, since a request whose response was lost may have been carried out;
- direct transfers between this machine and a bucket, which may not be reachable from here: all
  files go through the server;
- reading a model's requirements from a project that happens to be in the working directory.
"""

QUESTION = "/api/2.0/mlflow/experiments/search"
"""The path of a small request that uses the server's database, and that every user may send."""


@dataclass(frozen=True)
class ServerResponse:
    """The response of a server: the HTTP status, and the first 500 characters of the text."""

    status: int
    text: str


def client_of(uri: str) -> "MlflowClient":
    """Create a client of MLflow, set its environment, and silence its logs except for errors.

    `MLFLOW_REGISTRY_URI` may name another server for models. A missing SQLite file is created
    first, readable only by its owner: MLflow would create it readable by everybody.
    """
    os.environ.update(ENVIRONMENT)
    if uri.startswith("sqlite:///"):
        with suppress(OSError):  # the file exists, or MLflow reports why it cannot be created
            sqlite_path(uri).touch(mode=0o600, exist_ok=False)
    from mlflow import MlflowClient

    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    return MlflowClient(uri, os.environ.get("MLFLOW_REGISTRY_URI") or uri)


def sqlite_path(uri: str) -> Path:
    """Return the absolute path in an `sqlite:///` URI; as in SQLAlchemy, `%20` is a space."""
    return Path(unquote(uri.removeprefix("sqlite:///"))).absolute()


def add(write: Callable[[], object]) -> None:
    """Call `write`, and call it again if another client wrote the same row at the same time.

    Use it for tags and data sets of a shared experiment. MLflow checks for a row before it adds
    one. If two clients do so at once, the database rejects one of them (40 of 40 times on
    PostgreSQL, MLflow 3.17). The retry then finds the row of the other client.
    """
    from mlflow.exceptions import MlflowException

    try:
        write()
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":
            raise
        write()


def ask(uri: str, timeout_s: float) -> ServerResponse:
    """Send a small request to the server at an HTTP address, and return its response.

    The request uses the same login, certificates and proxies as MLflow's client.

    Raises:
        OSError: there is no response within `timeout_s`.
    """
    os.environ.update(ENVIRONMENT)
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    send: Any = http_request
    login: Any = get_default_host_creds
    try:
        response = send(
            login(uri),
            QUESTION,
            "GET",
            timeout=timeout_s,
            raise_on_status=False,
            params={"max_results": 1},
        )
    except MlflowException as error:
        raise OSError(str(error.__context__ or error)) from error
    return ServerResponse(response.status_code, response.text[:500])
