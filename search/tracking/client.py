"""MLflow's client: the environment it is used in, and a server's answers.

It reads its login from the environment (`MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`,
or a token) or from `~/.mlflow/credentials`; nothing here keeps it.
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
"""No telemetry, no pickles, no retries by MLflow itself (a request whose answer was lost may have
been carried out), no transfer of files directly from and to a bucket that may be out of reach (all
go through the server), and no model's requirements from a project that happens to lie in the
working directory.
"""

QUESTION = "/api/2.0/mlflow/experiments/search"
"""Answered from the database, to everybody who may log in."""


@dataclass(frozen=True)
class Answer:
    """A server's answer: HTTP's status, and the beginning of the text."""

    status: int
    text: str


def client_of(uri: str) -> "MlflowClient":
    """Return MLflow's client, in an environment that is set for it and silent but for errors.

    `MLFLOW_REGISTRY_URI` may name another place for models. A database file that is not there is
    made first, for its owner only: MLflow would make one that everybody can read.
    """
    os.environ.update(ENVIRONMENT)
    if uri.startswith("sqlite:///"):
        with suppress(OSError):  # it exists, or MLflow reports why it cannot be made
            sqlite_path(uri).touch(mode=0o600, exist_ok=False)
    from mlflow import MlflowClient

    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    return MlflowClient(uri, os.environ.get("MLFLOW_REGISTRY_URI") or uri)


def sqlite_path(uri: str) -> Path:
    """Return the file of an `sqlite:///` URI, as SQLAlchemy reads it: `%20` in it is a space."""
    return Path(unquote(uri.removeprefix("sqlite:///"))).absolute()


def add(write: Callable[[], object]) -> None:
    """Write what others may write at the same moment: a tag or a data set of a shared experiment.

    MLflow looks for a row before it adds it. Of two clients that do so at once its database refuses
    one (40 of 40 times on PostgreSQL, MLflow 3.17); asked again, it finds the other's row.
    """
    from mlflow.exceptions import MlflowException

    try:
        write()
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":
            raise
        write()


def ask(uri: str, timeout_s: float) -> Answer:
    """Return the answer of the server at an HTTP address to a small question.

    It is asked as all of MLflow's requests are: with the same login, certificates and proxies.

    Raises:
        OSError: no answer.
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
    return Answer(response.status_code, response.text[:500])
