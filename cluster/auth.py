"""The token that opens a cluster's doors: where it lies, and that there is one which nobody else reads."""

import os
import secrets
from pathlib import Path

from cluster.errors import NotReady

FILE = Path(".ray/auth_token")
"""Under the home folder; `file_mounts` takes it from there to every host."""

MODE = {"RAY_AUTH_MODE": "token"}


def token_file() -> Path:
    """The file that a cluster's hosts get."""
    return Path.home() / FILE


def ensure() -> bool:
    """See that there is a token which only this user reads; True if it was made now. Ray's own command would make it readable by all and print it."""
    path = token_file()
    if path.exists() and path.read_text().strip():
        path.chmod(0o600)
        return False
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123 - the mode is given at its birth
        file.write(secrets.token_hex(32))
    path.chmod(0o600)
    return True


def token() -> str:
    """The token, looked for where Ray looks.

    Raises:
        NotReady: there is none.
    """
    if given := os.environ.get("RAY_AUTH_TOKEN"):
        return given
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or token_file()).expanduser()
    try:
        found = path.read_text().strip()
    except OSError:
        found = ""
    if not found:
        raise NotReady(f"there is no token in {path}. Start the cluster with cluster.up, or copy the file from whoever did.")
    return found
