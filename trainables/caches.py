"""Where is kept what can be made or brought again: for its owner alone, and not without end."""

import fcntl
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from trainables.errors import ConfigError

LIMIT = "IMAGE_CACHE_GB"
"""The environment variable that says how large the decoded images may become together."""
DEFAULT_GB, DISK_SHARE = 20, 4
"""Their size where nothing is said: so much, or that part of the disk if it is smaller."""
ABANDONED_S = 24 * 3600
"""A half-written entry of this age belongs to a process that was killed."""
PARTIAL = "partial-"
"""How the names of entries begin that are being written or removed."""


def cache_folder(kind: str = "decoded") -> Path:
    """Return where decoded arrays, or those of another kind, are kept: below `$XDG_CACHE_HOME` or
    `~/.cache`, in `image-classifier-search`.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "image-classifier-search" / kind


def make_private(folder: Path) -> None:
    """Make a folder of the cache, which only its owner can look into, as everything beside it.

    Raises:
        OSError: it cannot be made.
    """
    root = cache_folder().parent
    for path in (root, folder):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.stat().st_mode & 0o077:
            with suppress(PermissionError):  # it belongs to somebody else, who shares it
                path.chmod(0o700)


def cache_limit(folder: Path) -> int:
    """Return how many bytes the entries in this folder may have together.

    Raises:
        ConfigError: `$IMAGE_CACHE_GB` is no number.
    """
    given = os.environ.get(LIMIT, "").strip()
    if not given:
        return min(DEFAULT_GB * 10**9, shutil.disk_usage(folder).total // DISK_SHARE)
    try:
        wanted = float(given)
    except ValueError:
        wanted = -1.0
    if not 0 <= wanted < 1e9:
        raise ConfigError(f"{LIMIT} must be a number of GB, 0 or more (got {given[:40]!r}).")
    return int(wanted * 10**9)


def hold(file: Path) -> int:
    """Open a file of an entry and keep the entry from being evicted until the descriptor is closed.
    Where files cannot be locked it may be evicted, which harms nobody who has mapped it.

    Raises:
        OSError: it is not there, or is just being evicted.
    """
    descriptor = os.open(file, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        pass
    return descriptor


def evict(folder: Path, limit: int, *, name: str, spare: Path) -> None:
    """Remove the entries that were not used for longest, until all have at most so many bytes, and
    what killed processes have left half-written. Never `spare`, nor an entry that a process holds:
    `name` is the file by which they are held.
    """
    ages, sizes = {}, {}
    for entry in folder.iterdir():
        with suppress(OSError):
            ages[entry] = entry.stat().st_mtime
            sizes[entry] = sum(path.stat().st_size for path in entry.rglob("*"))
    for entry in sorted(ages, key=lambda entry: ages[entry]):
        if entry.name.startswith(PARTIAL):
            if time.time() - ages[entry] > ABANDONED_S:
                shutil.rmtree(entry, ignore_errors=True)
                sizes.pop(entry, None)
        elif sum(sizes.values()) > limit and entry != spare and _take_away(entry, name):
            sizes.pop(entry, None)


def _take_away(entry: Path, name: str) -> bool:
    """Remove an entry, unless somebody holds it; whether it is gone."""
    try:
        descriptor = os.open(entry / name, os.O_RDWR)  # NFS locks only what may be written
    except PermissionError:  # somebody else's
        return False
    except OSError:  # not whole
        shutil.rmtree(entry, ignore_errors=True)
        return True
    try:
        if _is_held(descriptor):
            return False
        aside = entry.with_name(f"{PARTIAL}{entry.name}")
        entry.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _is_held(descriptor: int) -> bool:
    """Try to lock a file that somebody may hold. Where files cannot be locked, nobody does."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
