"""The token that opens a cluster's doors: where it lies, and that there is one which nobody else
reads.
"""

import os
import secrets
import tempfile
from pathlib import Path

from cluster.cli import expanded
from cluster.errors import NotReady

FILE = Path(".ray/auth_token")
"""Under the home folder; `file_mounts` takes it from there to every host."""

MODE = {"RAY_AUTH_MODE": "token"}


def token_file() -> Path:
    """The file that a cluster's hosts get."""
    return Path.home() / FILE


def ensure() -> bool:
    """See that there is a token which only this user reads; True if it was made now. Ray would make
    it readable by all.

    Raises:
        NotReady: it cannot be written.
    """
    path = token_file()
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _close(path.parent, 0o700)
        return _make(path)
    except OSError as error:
        remedy = "Set HOME to a folder that can be written."
        raise NotReady(
            f"Ray keeps its token in {path}, which cannot be written ({error.strerror}). {remedy}"
        ) from error


def _make(path: Path) -> bool:
    """Write a token where there is none. It is whole, and private, before it has its name: of two
    who do so at once both have the same.
    """
    if _keep(path):
        return False
    descriptor, partial = tempfile.mkstemp(
        prefix=f".{path.name}-", dir=path.parent
    )  # of mode 0600 from its first byte
    try:
        with open(descriptor, "w") as file:  # noqa: PTH123 - a descriptor
            file.write(secrets.token_hex(32))
        try:
            os.link(partial, path)
        except OSError:  # somebody was faster, or this file system knows no links
            if _keep(path):
                return False
            os.replace(partial, path)  # noqa: PTH105 - beside os.link
    finally:
        Path(partial).unlink(missing_ok=True)
    return True


def _keep(path: Path) -> bool:
    """Close a token that is there to others; False where there is none."""
    if not path.exists() or not path.read_text().strip():
        return False
    _close(path, 0o600)
    return True


def _close(path: Path, mode: int) -> None:
    """Take others' rights away, where they have any."""
    if path.stat().st_mode & 0o077:
        path.chmod(mode)


def token() -> str:
    """The token, looked for where Ray looks.

    Raises:
        NotReady: there is none.
    """
    if given := os.environ.get("RAY_AUTH_TOKEN"):
        return given
    path = expanded(os.environ.get("RAY_AUTH_TOKEN_PATH") or str(token_file()))
    try:
        found = path.read_text().strip()
    except OSError:
        found = ""
    if not found:
        raise NotReady(
            f"there is no token in {path}. Start the cluster with cluster.up, or copy the file from whoever did."
        )
    return found
