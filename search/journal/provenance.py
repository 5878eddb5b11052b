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
    "search/schedulers/*.json",
    "search/decisions/*.py",
    "search/design/budget.py",
    "search/design/experiment.py",
    "search/design/lesson.py",
    "search/journal/events.py",
    "search/journal/guessing.py",
    "search/journal/result.py",
    "search/values/evaluations.py",
    "search/values/objectives.py",
    "search/space.py",
    "search/values/statistics.py",
)
TRAINING = DECIDING[:1]
"""Patterns of the modules that a result depends on (`DECIDING`), and of the modules among them that
train (`TRAINING`).
"""
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
"""Patterns of the modules that run in a worker. Workers with other code are not reused."""
CPUS, GPUS = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/gpus")


def provenance() -> dict[str, str]:
    """Collect the facts about the origin of a result.

    The keys are `git.commit` (the value ends in `+changes` if the working tree is dirty), `code`,
    `user`, `host`, `version.python`, and `version.NAME` for each library.
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
    """Return the versions of these libraries, as `version.NAME`; missing libraries are left out."""
    installed = {}
    for name in libraries:
        try:
            installed[f"version.{name}"] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def code_fingerprint() -> str:
    """Fingerprint the code that suggests, trains and stops trials.

    Returns:
        The first 12 hex digits of the SHA-256 over the modules in `DECIDING`.
    """
    return _sum_of(DECIDING)[:12]


def working_fingerprint() -> str:
    """Fingerprint the code that runs in a worker.

    Returns:
        The first 12 hex digits of the SHA-256 over the modules in `WORKING`.
    """
    return _sum_of(WORKING)[:12]


def training_fingerprint(**inputs: object) -> str:
    """Fingerprint everything that a training depends on, except its config.

    If the fingerprints are equal, trainings with the same config produce the same metrics. The
    fingerprint covers the code that trains, its libraries, the CPUs and GPUs of this machine, and
    `inputs`, such as the fingerprint of the data. In a cluster, only this machine is described.

    Returns:
        16 hex digits.
    """
    facts = {
        **inputs,
        "code": _sum_of(TRAINING),
        "machine": _machine(),
        "python": platform.python_version(),
        **versions(TRAINING_LIBRARIES),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _sum_of(patterns: Sequence[str]) -> str:
    """Return the SHA-256 over the names and contents of the files that match these patterns.

    Raises:
        FileNotFoundError: a pattern matches no file. It may name a module that has been moved, and
            changes to that module would go unnoticed.
    """
    root, digest, paths = Path(__file__).parents[2], hashlib.sha256(), set[Path]()
    for pattern in patterns:
        matches = set(root.glob(pattern))
        if not matches:
            raise FileNotFoundError(
                f"no file of this program matches the pattern '{pattern}'. Install the program "
                "again."
            )
        paths |= matches
    for path in sorted(paths):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _machine() -> list[str]:
    """Describe the CPUs and GPUs of this machine, since other models may round differently."""
    processors = [platform.machine()]
    with suppress(OSError):
        processors += sorted(
            {
                line
                for line in CPUS.read_text().splitlines()
                if line.startswith(("model name", "CPU part", "flags", "Features"))
            }
        )
    for path in sorted(GPUS.glob("*/information")):
        with suppress(OSError):
            processors += [
                line for line in path.read_text().splitlines() if line.startswith("Model")
            ]
    return processors


def git_commit() -> str:
    """Return the commit of this project; empty if it is not a git checkout.

    `+changes` is appended if the working tree is dirty.
    """
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
    # Without this option, `status` locks the index briefly, and a concurrent commit may fail.
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
