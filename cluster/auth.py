"""Create and read the token that gives access to a cluster; only its owner can read the file."""

import os
import secrets
import tempfile
from pathlib import Path

from cluster.cli import expand_path
from cluster.errors import NotReady

FILE = Path(".ray/auth_token")
"""Path of Ray's token relative to the home folder; `file_mounts` copies it to every host."""

MODE = {"RAY_AUTH_MODE": "token"}
"""The environment variable that makes Ray require the token."""


def token_file() -> Path:
    """Path of the token file that is copied to a cluster's hosts."""
    return Path.home() / FILE


def ensure() -> bool:
    """Create a token if there is none, and make it readable only by this user.

    If Ray created the token itself, everybody could read it.

    Returns:
        True if the token is new.

    Raises:
        NotReady: the file cannot be written.
    """
    path = token_file()
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _close(path.parent, 0o700)
        return _make(path)
    except OSError as error:
        raise NotReady(
            f"Ray's token file {path} cannot be written ({error.strerror}). "
            "Set HOME to a writable folder."
        ) from error


def _make(path: Path) -> bool:
    """Create the token if there is none; return True if this call created it.

    The file is complete and private before it is linked to its final name, so two processes that
    create a token at the same time use the same token.
    """
    if _keep(path):
        return False
    # mkstemp creates the file with mode 0600, so nobody else can ever read it.
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with open(descriptor, "w") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(secrets.token_hex(32))
        try:
            # Unlike a rename, a link fails if another process has just created the token.
            os.link(partial, path)
        except OSError:  # it exists already, or the file system has no hard links
            if _keep(path):
                return False
            os.replace(partial, path)  # noqa: PTH105 - like os.link above
    finally:
        Path(partial).unlink(missing_ok=True)
    return True


def _keep(path: Path) -> bool:
    """Make an existing token readable only by its owner; return False if there is no token."""
    if not path.exists() or not path.read_text().strip():
        return False
    _close(path, 0o600)
    return True


def _close(path: Path, mode: int) -> None:
    if path.stat().st_mode & 0o077:
        path.chmod(mode)


def token() -> str:
    """Read the token from the places where Ray looks for it.

    Raises:
        NotReady: there is no token.
    """
    if value := os.environ.get("RAY_AUTH_TOKEN"):
        return value
    path = expand_path(os.environ.get("RAY_AUTH_TOKEN_PATH") or str(token_file()))
    try:
        text = path.read_text().strip()
    except OSError:
        text = ""
    if not text:
        raise NotReady(
            f"the cluster's token is missing: {path} does not exist or is empty. Copy this file "
            "from the machine of the person who started the cluster, or start a cluster with: "
            "python -m cluster.up FILE"
        )
    return text
