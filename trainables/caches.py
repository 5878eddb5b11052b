"""Folders for files that can be made again: private to their owner, limited in size."""

import fcntl
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from trainables.errors import ConfigError

LIMIT = "IMAGE_CACHE_GB"
"""The environment variable that limits the size of all decoded images together, in GB."""
DEFAULT_GB, DISK_SHARE = 20, 4
"""The default limit: `DEFAULT_GB`, or one part in `DISK_SHARE` of the disk if that is less."""
ABANDONED_S = 24 * 3600
"""A half-written entry of this age, in seconds, belongs to a process that was killed."""
PARTIAL = "partial-"
"""The prefix of the names of entries that are being written or removed."""


def cache_folder(kind: str = "decoded") -> Path:
    """Return the folder for decoded arrays, or for files of another kind.

    It lies below `$XDG_CACHE_HOME` or `~/.cache`, in `image-classifier-search`.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "image-classifier-search" / kind


def make_private(folder: Path) -> None:
    """Create a folder of the cache, and the cache's root folder, with access for its owner only."""
    root = cache_folder().parent
    for path in (root, folder):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.stat().st_mode & 0o077:
            with suppress(PermissionError):  # it belongs to another user, who shares it
                path.chmod(0o700)


def cache_limit(folder: Path) -> int:
    """Return the number of bytes that the entries in this folder may have together.

    Raises:
        ConfigError: `$IMAGE_CACHE_GB` is no number.
    """
    setting = os.environ.get(LIMIT, "").strip()
    if not setting:
        return min(DEFAULT_GB * 10**9, shutil.disk_usage(folder).total // DISK_SHARE)
    try:
        limit_gb = float(setting)
    except ValueError:
        limit_gb = -1.0
    if not 0 <= limit_gb < 1e9:
        raise ConfigError(f"{LIMIT} must be a number of GB, 0 or more (got {setting[:40]!r}).")
    return int(limit_gb * 10**9)


def hold(file: Path) -> int:
    """Open a file of an entry and keep the entry from being evicted.

    The entry is held until the returned descriptor is closed. Where files cannot be locked it may
    still be evicted, which does no harm to a process that has mapped it.

    Raises:
        OSError: the file is missing, or is being evicted.
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
    """Remove the least recently used entries until the others have at most `limit` bytes together.

    Half-written entries of killed processes are removed too. `spare` is never removed, nor is an
    entry that a process holds; `name` is the file by which entries are held (`hold`).
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
        elif sum(sizes.values()) > limit and entry != spare and _remove_unless_held(entry, name):
            sizes.pop(entry, None)


def _remove_unless_held(entry: Path, name: str) -> bool:
    """Remove an entry unless a process holds it. True if it is gone."""
    try:
        descriptor = os.open(entry / name, os.O_RDWR)  # NFS locks only what may be written
    except PermissionError:  # another user's
        return False
    except OSError:  # incomplete
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
    """Lock a file. True if another process has locked it; False where files cannot be locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
