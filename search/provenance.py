"""Where a result comes from: the code's commit, the versions of what it runs on, who ran it where."""

import getpass
import hashlib
import platform
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("image-classifier-search", "torch", "torchvision", "ray", "optuna", "mlflow", "scikit-learn", "numpy")

DECIDING = ("trainables/**/*.py", "search/algorithms/*.py", "search/schedulers/*.py", "search/driver.py", "search/experiment.py", "search/space.py")


def provenance() -> dict[str, str]:
    """`git.commit` (with `+changes` when the tree is dirty), `code`, `user`, `host`, and `version.NAME` of each library."""
    return {
        "git.commit": git_commit(),
        "code": code_fingerprint(),
        "user": _user(),
        "host": socket.gethostname(),
        "version.python": platform.python_version(),
        **versions(),
    }


def versions() -> dict[str, str]:
    """The installed version of each library that decides a result."""
    found = {}
    for name in LIBRARIES:
        try:
            found[f"version.{name}"] = version(name)
        except PackageNotFoundError:
            continue
    return found


def code_fingerprint() -> str:
    """The first 12 hex digits of the SHA-256 over the modules that decide a result: all that trains, and all that suggests and stops."""
    root, digest = Path(__file__).parent.parent, hashlib.sha256()
    for path in sorted(path for pattern in DECIDING for path in root.glob(pattern)):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def git_commit() -> str:
    """The commit of this project's own checkout; empty where there is none."""
    here = Path(__file__).parent
    try:
        if Path(_git(here, "rev-parse", "--show-toplevel")) != here.parent.resolve():
            return ""
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=5, check=True).stdout.strip()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
