"""File access: syncing to disk, and reading files that another user may have placed there."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path


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
