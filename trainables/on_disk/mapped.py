"""Images that stay decoded in a file, which is mapped into memory.

All processes of a machine share what the system keeps of the file in its cache.
"""

import mmap
import os
import threading
import weakref
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.caches import hold
from trainables.on_disk.images import ImagesOnDisk

OPENED: "weakref.WeakValueDictionary[Path, NDArray[np.uint8]]" = weakref.WeakValueDictionary()
"""The files that this process has mapped into memory, as long as images of them are in use."""
OPENING = threading.Lock()
"""The lock that is held while `OPENED` is read or changed."""


@dataclass(frozen=True, eq=False)
class Mapped(ImagesOnDisk):
    """Rows of an array of images, uint8 (images, height, width, channels), in an `.npy` file."""

    file: Path
    lock: Path
    """The file that is locked so that the entry of the cache is not evicted (`caches.hold`)."""

    @classmethod
    def whole(cls, file: Path, lock: Path, fingerprint: str) -> "Mapped":
        """Return all images of a file, whose entry is not evicted from now on.

        Raises:
            OSError, ValueError: the file is missing or damaged.
        """
        array = _opened(file, lock)
        images = cls(np.arange(len(array)), fingerprint, file, lock)
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

    @property
    def folder(self) -> Path:
        """The entry of the cache in which the file is."""
        return self.file.parent

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width, channels)."""
        return self.array.shape[1:]

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return a copy of these rows of the file's array, (rows,)."""
        images: NDArray[np.uint8] = np.asarray(self.array[rows])
        return images

    def take(self, numbers: Any) -> "Mapped":
        """Return these images, without copying them."""
        images = super().take(numbers)
        images.__dict__["array"] = self.array  # which holds the entry
        return images

    def expect(self, rows: NDArray[np.int64]) -> None:
        """Let the system read these rows of the file in the background."""
        mapping: Any = self.array.base
        if not hasattr(mapping, "madvise") or not hasattr(mmap, "MADV_WILLNEED"):
            return
        size, offset = int(self.array[:1].nbytes), self.array.offset  # type: ignore[attr-defined]
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
