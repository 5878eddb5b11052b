"""File access: whole and durable writes, files of other users, and the cache folders.

Cache folders are private to their owner and limited in size; their files can be recreated.
"""

import errno
import fcntl
import os
import shutil
import stat
import time
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

from trainables.errors import ConfigError

LIMIT = "IMAGE_CACHE_GB"
"""The environment variable that limits the total size of the cached decoded images, in GB."""
DEFAULT_GB, DISK_SHARE, FREE_SHARE = 20, 4, 10
"""The default limit is `DEFAULT_GB`, or 1 / `DISK_SHARE` of the disk's size if that is less, or
1 / `FREE_SHARE` of what is free if that is more.
"""
ABANDONED_S = 24 * 3600
"""The age in seconds after which an incomplete entry is removed.

The process that was writing it has probably been killed.
"""
PARTIAL = "partial-"
"""The prefix of the names of entries that are being written or removed."""


class NotRegular(OSError):
    """A pipe, a folder or a device where a file is expected."""


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading, without ever blocking.

    Opening a named pipe (FIFO) would block until another process writes into it, perhaps forever.

    Raises:
        NotRegular: the path is not a regular file.
        OSError: the file is missing or cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise NotRegular(errno.EINVAL, "not a regular file", str(path))


def read_regular(path: Path, most: int = -1) -> bytes:
    """Read a regular file, or only its first `most` bytes if `most` is not negative.

    Raises:
        NotRegular, OSError: as for `open_regular`.
    """
    with open_regular(path) as file:
        return file.read(most)


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to disk, so that they survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a small file atomically: readers see the old or the new text, even after a crash."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def cache_folder(kind: str = "decoded") -> Path:
    """Return the cache folder for files of one kind; by default that of decoded images.

    It is in `image-classifier-search`, below `$XDG_CACHE_HOME` or `~/.cache`. It is not created.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "image-classifier-search" / kind


def make_private(folder: Path) -> None:
    """Create a cache folder, and the root of all cache folders, accessible only to their owner.

    The permissions of an existing folder are corrected, unless another user owns it.
    """
    for path in (cache_folder().parent, folder):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.stat().st_mode & 0o077:
            with suppress(PermissionError):  # another user owns the folder
                path.chmod(0o700)


def cache_limit(folder: Path) -> int:
    """Return the maximum total size of the entries in this folder, in bytes.

    It is `$IMAGE_CACHE_GB`, or a default that depends on the disk (`DEFAULT_GB`).

    Raises:
        ConfigError: `$IMAGE_CACHE_GB` is not a number, negative or too large.
    """
    setting = os.environ.get(LIMIT, "").strip()
    if not setting:
        disk = shutil.disk_usage(folder)
        usual = min(DEFAULT_GB * 10**9, disk.total // DISK_SHARE)
        return max(usual, disk.free // FREE_SHARE)
    with suppress(ValueError):
        if 0 <= (limit_gb := float(setting)) < 1e9:
            return int(limit_gb * 10**9)
    raise ConfigError(f"{LIMIT} must be a number of GB, 0 or more (got {setting[:40]!r}).")


def hold(file: Path) -> int:
    """Open a file of an entry, and lock it so that the entry is not evicted.

    The lock lasts until the returned file descriptor is closed. On a file system without locks the
    entry may still be evicted, which does not harm a process that has mapped its files.

    Raises:
        OSError: the file is missing, or is being evicted.
    """
    descriptor = os.open(file, os.O_RDONLY)
    if not _try_lock(descriptor, fcntl.LOCK_SH):
        os.close(descriptor)
        raise BlockingIOError(errno.EAGAIN, "being evicted", str(file))
    return descriptor


def _try_lock(descriptor: int, operation: int) -> bool:
    """Lock a file, if no other process has locked it; also True on a file system without locks."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def reserve(descriptor: int, size: int) -> bool:
    """Allocate the space of a file on the disk; return False if that is not possible.

    A file that will be mapped needs it: writing to a mapped file on a full disk kills the process
    (SIGBUS).
    """
    try:
        os.posix_fallocate(descriptor, 0, size)
    except (AttributeError, OSError):  # macOS has no such function
        return False
    return True


def evict(folder: Path, limit: int, *, name: str, spare: Path) -> None:
    """Remove the least recently used entries until the rest has at most `limit` bytes in total.

    Incomplete entries of killed processes are removed too. An entry that a process holds is never
    removed (`hold`).

    Args:
        folder: the cache folder; each of its sub-folders is an entry.
        limit: the maximum total size, in bytes.
        name: the name of the file in each entry that `hold` locks.
        spare: an entry that must not be removed, such as the newest.
    """
    ages, sizes = {}, {}
    for entry in folder.iterdir():
        with suppress(OSError):
            ages[entry] = entry.stat().st_mtime
            sizes[entry] = sum(path.stat().st_size for path in entry.rglob("*"))
    for entry in sorted(ages, key=ages.__getitem__):
        if entry.name.startswith(PARTIAL):
            if time.time() - ages[entry] > ABANDONED_S:
                shutil.rmtree(entry, ignore_errors=True)
                sizes.pop(entry, None)
        elif sum(sizes.values()) > limit and entry != spare and _remove_unless_held(entry, name):
            sizes.pop(entry, None)


def _remove_unless_held(entry: Path, name: str) -> bool:
    """Remove an entry unless a process holds it; return True if it was removed."""
    try:
        # NFS refuses an exclusive lock on a file that is not open for writing.
        descriptor = os.open(entry / name, os.O_RDWR)
    except PermissionError:  # another user owns the entry
        return False
    except OSError:  # the entry is incomplete
        shutil.rmtree(entry, ignore_errors=True)
        return True
    try:
        if not _try_lock(descriptor, fcntl.LOCK_EX):
            return False
        aside = entry.with_name(f"{PARTIAL}{entry.name}")
        entry.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
