"""The origin of a result: the code's commit, the libraries' versions, the user and the host."""

import getpass
import hashlib
import json
import platform
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = (
    "image-classifier-search",
    "torch",
    "torchvision",
    "ray",
    "optuna",
    "mlflow",
    "scikit-learn",
    "numpy",
)

TRAINING_LIBRARIES = ("torch", "torchvision", "scikit-learn", "scikit-image", "numpy")
DECIDING = (
    "trainables/**/*.py",
    "search/algorithms/*.py",
    "search/schedulers/*.py",
    "search/decisions/*.py",
    "search/design/budget.py",
    "search/design/experiment.py",
    "search/journal/events.py",
    "search/journal/result.py",
    "search/values/objectives.py",
    "search/space.py",
    "search/values/statistics.py",
)
TRAINING = DECIDING[:1]
"""The modules that decide a result (`DECIDING`), and those of them that train (`TRAINING`)."""
WORKING = (
    *TRAINING,
    "cluster/**/*.py",
    "search/execution/job.py",
    "search/execution/process.py",
    "search/execution/worker.py",
    "search/journal/bucket_lease.py",
    "search/journal/bucket_log.py",
    "search/journal/events.py",
    "search/journal/journal.py",
    "search/journal/lease.py",
    "search/journal/store.py",
    "search/preflight/shadows.py",
    "search/values/statistics.py",
)
"""The modules that run in a worker: one that was started by other code is of no use."""
CPUS, GPUS = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/gpus")


def provenance() -> dict[str, str]:
    """Return the facts that a result's origin is known by.

    They are `git.commit` (with `+changes` when the tree is dirty), `code`, `user`, `host`,
    `version.python` and `version.NAME` of each library.
    """
    return {
        "git.commit": git_commit(),
        "code": code_fingerprint(),
        "user": _user(),
        "host": socket.gethostname(),
        "version.python": platform.python_version(),
        **versions(),
    }


def versions(libraries: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Return the installed version of each library that decides a result."""
    found = {}
    for name in libraries:
        try:
            found[f"version.{name}"] = version(name)
        except PackageNotFoundError:
            continue
    return found


def code_fingerprint() -> str:
    """Return the first 12 hex digits of the SHA-256 over the modules that decide a result.

    These are all that train, and all that suggest and stop.
    """
    return _sum_of(DECIDING)[:12]


def working_fingerprint() -> str:
    """Return the first 12 hex digits of the SHA-256 over the modules that run in a worker."""
    return _sum_of(WORKING)[:12]


def training_fingerprint(**about: object) -> str:
    """Return 16 hex digits that are equal where equal configs are trained to equal metrics.

    They cover the code that trains and its libraries, this kind of machine, and what else is given
    in `about`, such as the data's fingerprint. In a cluster, this machine stands for all.
    """
    facts = {
        **about,
        "code": _sum_of(TRAINING),
        "machine": _machine(),
        "python": platform.python_version(),
        **versions(TRAINING_LIBRARIES),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _sum_of(patterns: Sequence[str]) -> str:
    """Return the SHA-256 over these files of the project, their names included.

    Raises:
        FileNotFoundError: a pattern matches no file, as after a module has moved: otherwise changes
            to its content would go unseen.
    """
    root, digest, paths = Path(__file__).parents[2], hashlib.sha256(), set[Path]()
    for pattern in patterns:
        found = set(root.glob(pattern))
        if not found:
            raise FileNotFoundError(f"no file of this program matches '{pattern}'")
        paths |= found
    for path in sorted(paths):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _machine() -> list[str]:
    """Return the processors that compute here, as far as the system names them.

    Another kind of processor rounds differently.
    """
    found = [platform.machine()]
    with suppress(OSError):
        found += sorted(
            {
                line
                for line in CPUS.read_text().splitlines()
                if line.startswith(("model name", "CPU part", "flags", "Features"))
            }
        )
    for path in sorted(GPUS.glob("*/information")):
        with suppress(OSError):
            found += [line for line in path.read_text().splitlines() if line.startswith("Model")]
    return found


def git_commit() -> str:
    """Return the commit of this project's own checkout; empty if there is none."""
    here = Path(__file__).parents[2]
    try:
        if Path(_git(here, "rev-parse", "--show-toplevel")) != here.resolve():
            return ""
        commit = _git(here, "rev-parse", "HEAD")
        return commit + (
            "+changes" if _git(here, "status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    # Otherwise `status` locks the index for a moment, and a commit made just then fails.
    return subprocess.run(
        ["git", "--no-optional-locks", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=5,
        check=True,
    ).stdout.strip()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
