"""Images that stay in a file, for data sets that are larger than the memory.

The file is mapped into memory, so that all processes of a machine share what the system keeps of it
in its file cache. Selecting rows copies nothing. A pickle has the path of the file instead of the
images.
"""

import mmap
import os
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.caches import hold
from trainables.memory import free_memory

MEMORY_SHARE = 0.25
"""Images stay in their file if they need more than this share of the free memory.

Otherwise there are copies of them: those that are drawn for training, and those in Ray's memory.
"""

OPENED: "weakref.WeakValueDictionary[Path, NDArray[np.uint8]]" = weakref.WeakValueDictionary()
"""The files that this process has mapped into memory, as long as images of them are in use."""
OPENING = threading.Lock()
"""The lock that is held while `OPENED` is read or changed."""


def is_large(size: int) -> bool:
    """True if images of this size, in bytes, should stay in their file."""
    free = free_memory()
    return free is not None and size > MEMORY_SHARE * free


@dataclass(frozen=True, eq=False)
class Mapped:
    """Rows of an array of images, uint8 (images, height, width, channels), in an `.npy` file."""

    file: Path
    rows: NDArray[np.int64]
    """The rows of the file's array that these images are, in this order."""
    lock: Path
    """The file that is locked so that the entry of the cache is not evicted (`caches.hold`)."""
    fingerprint: str
    """Identifies the content of the whole file."""

    @classmethod
    def whole(cls, file: Path, lock: Path, fingerprint: str) -> "Mapped":
        """Return all images of a file, whose entry is not evicted from now on.

        Raises:
            OSError, ValueError: the file is missing or damaged.
        """
        array = _opened(file, lock)
        images = cls(file, np.arange(len(array)), lock, fingerprint)
        images.__dict__["array"] = array  # a `cached_property`, which holds the entry
        return images

    @cached_property
    def array(self) -> NDArray[np.uint8]:
        """The array of the whole file, mapped into memory.

        Raises:
            OSError, ValueError: the file is missing or damaged.
        """
        return _opened(self.file, self.lock)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mapped array out of a pickle."""
        return {name: value for name, value in self.__dict__.items() if name != "array"}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, numbers: Any) -> NDArray[np.uint8]:
        """Return a copy of one image, or of several."""
        rows = self.rows[numbers]
        self.expect(np.atleast_1d(rows))
        images: NDArray[np.uint8] = np.asarray(self.array[rows])
        return images

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[number] for number in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return a copy of all images.

        Raises:
            ValueError: a result without a copy was asked for.
        """
        if copy is False:
            raise ValueError("images in a file cannot become an array without a copy")
        return self[:] if dtype is None else self[:].astype(dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """(images, height, width, channels)."""
        return len(self), *self.array.shape[1:]

    @property
    def image_bytes(self) -> int:
        """The size of an image, in bytes."""
        return int(self.array[:1].nbytes)

    def take(self, numbers: Any) -> "Mapped":
        """Return these images, without copying them."""
        images = Mapped(self.file, self.rows[numbers], self.lock, self.fingerprint)
        images.__dict__["array"] = self.array  # which holds the entry
        return images

    def expect(self, rows: NDArray[np.int64]) -> None:
        """Let the system read these rows of the file in the background."""
        mapping: Any = self.array.base
        if not hasattr(mapping, "madvise") or not hasattr(mmap, "MADV_WILLNEED"):
            return
        size, offset = self.image_bytes, self.array.offset  # type: ignore[attr-defined]
        for row in rows.tolist():
            begin = offset + row * size
            page = begin - begin % mmap.PAGESIZE
            mapping.madvise(mmap.MADV_WILLNEED, page, begin + size - page)


def _opened(file: Path, lock: Path) -> NDArray[np.uint8]:
    """Map a file into memory, once for all images of this process, and lock its entry."""
    with OPENING:
        if (array := OPENED.get(file)) is None:
            descriptor = hold(lock)
            try:
                array = np.load(file, mmap_mode="r", allow_pickle=False)
            except BaseException:
                os.close(descriptor)
                raise
            weakref.finalize(array, os.close, descriptor)
            OPENED[file] = array
    return array


def keep_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array to an entry of the cache, completely or not at all; errors are ignored."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            np.save(file, array, allow_pickle=False)
            os.fsync(file.fileno())
        partial.chmod(0o600)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
