"""Images that stay on the disk, because they would fill the memory.

`Mapped` images are decoded in a file, which is mapped into memory. `Encoded` images, which fit not
even decoded on the disk, are decoded from their own files whenever they are used: threads decode
the next batch while the network is busy with the one before. Selecting rows copies nothing, and a
pickle has the paths of files instead of the images.
"""

import dataclasses
import hashlib
import mmap
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from trainables.disk import hold
from trainables.errors import DataError, printable
from trainables.machine import free_memory, processors

Rows = NDArray[np.int64]
"""Numbers of rows of a table of images, (rows,)."""
ImageArray = NDArray[np.uint8]
MEMORY_SHARE = 0.25
"""Images stay on the disk if they need more than this share of the free memory.

Otherwise there are copies of them: those that are drawn for training, and those in Ray's memory.
"""


def is_large(size: int) -> bool:
    """True if images of this size, in bytes, should stay on the disk."""
    return size > MEMORY_SHARE * free_memory()


@dataclass(frozen=True, eq=False)
class ImagesOnDisk:
    """Images of one size, uint8 (images, height, width, channels), that are read when needed.

    They are rows of a table, such as an array in a file, or a list of image files.
    """

    rows: Rows
    """The rows of the table that these images are, in this order."""
    fingerprint: str
    """Identifies the content of the whole table."""

    @property
    def folder(self) -> Path | None:
        """The entry of the cache in which results about the images are stored; None for none."""
        raise NotImplementedError

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width, channels)."""
        raise NotImplementedError

    def take(self, numbers: Any) -> Self:
        """Return these images, without copying them."""
        return dataclasses.replace(self, rows=self.rows[numbers])

    def expect(self, rows: Rows) -> None:
        """Begin to read these rows of the table in the background."""
        raise NotImplementedError

    def read(self, rows: Rows) -> ImageArray:
        """Return these rows of the table as an array."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, numbers: Any) -> ImageArray:
        """Return a copy of one image, or of several."""
        selected = self.rows[numbers]
        rows = np.atleast_1d(selected)
        self.expect(rows)
        images = self.read(rows)
        return images if np.ndim(selected) else images[0]

    def __iter__(self) -> Iterator[ImageArray]:
        return (self[number] for number in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return a copy of all images.

        Raises:
            ValueError: a result without a copy was asked for.
        """
        if copy is False:
            raise ValueError("images on the disk cannot become an array without a copy")
        return self[:] if dtype is None else self[:].astype(dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """(images, height, width, channels)."""
        return len(self), *self.image_shape


OPENED: "weakref.WeakValueDictionary[Path, ImageArray]" = weakref.WeakValueDictionary()
"""The files that this process has mapped into memory, as long as images of them are in use."""
OPENING = threading.Lock()
"""The lock that is held while `OPENED` is read or changed."""


@dataclass(frozen=True, eq=False)
class Mapped(ImagesOnDisk):
    """Rows of an array of images, uint8 (images, height, width, channels), in an `.npy` file.

    All processes of a machine share what the system keeps of the file in its cache.
    """

    file: Path
    lock: Path
    """The file that is locked so that the entry of the cache is not evicted (`disk.hold`)."""

    @classmethod
    def whole(cls, file: Path, lock: Path, fingerprint: str) -> "Mapped":
        """Return all images of a file, whose entry is not evicted from now on.

        Raises:
            OSError, ValueError: the file is missing or damaged.
        """
        array = _map_file(file, lock)
        images = cls(np.arange(len(array)), fingerprint, file, lock)
        images.__dict__["array"] = array  # a `cached_property`, which holds the entry
        return images

    @cached_property
    def array(self) -> ImageArray:
        """The array of the whole file, mapped into memory.

        Raises:
            OSError, ValueError: the file is missing or damaged.
        """
        return _map_file(self.file, self.lock)

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

    def read(self, rows: Rows) -> ImageArray:
        """Return a copy of these rows of the file's array."""
        images: ImageArray = np.asarray(self.array[rows])
        return images

    def take(self, numbers: Any) -> "Mapped":
        """Return these images, without copying them."""
        images = super().take(numbers)
        images.__dict__["array"] = self.array  # which holds the entry
        return images

    def expect(self, rows: Rows) -> None:
        """Let the system read these rows of the file in the background."""
        mapping: Any = self.array.base
        if not hasattr(mapping, "madvise") or not hasattr(mmap, "MADV_WILLNEED"):
            return
        size, offset = int(self.array[:1].nbytes), self.array.offset  # type: ignore[attr-defined]
        for row in rows.tolist():
            begin = offset + row * size
            page = begin - begin % mmap.PAGESIZE
            mapping.madvise(mmap.MADV_WILLNEED, page, begin + size - page)


def _map_file(file: Path, lock: Path) -> ImageArray:
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


AHEAD = 3
"""The maximum number of batches that wait, decoded, until they are read.

Two are needed: the next batch is expected before the current one is read. Another one is for a
second training in the same process. A batch that is dropped is decoded when it is read.
"""
SAMPLED, SAMPLE_BATCH, SAMPLE_S = 512, 32, 1.0
"""The speed is measured on at most `SAMPLED` images, in batches, for about `SAMPLE_S` seconds."""

Stamp = tuple[int, int]
"""The size of a file in bytes, and the time of its last modification in ns."""
Decode = Callable[[Path, tuple[int, int], str, tuple[float, float]], ImageArray]
"""A function that decodes a file, as `datasets.images.decode` does."""
Batch = tuple[ImageArray, list["Future[None]"]]
"""The images of a batch, and the decoding of each."""


@dataclass(frozen=True, eq=False)
class EncodedFiles:
    """Image files, and the function that decodes them."""

    root: Path
    """The folder of the files, as an absolute path, for processes with another working folder."""
    names: tuple[str, ...]
    """The path of each file relative to `root`."""
    stamps: Rows
    """The `Stamp` of each file, (files, 2)."""
    image_shape: tuple[int, int, int]
    """(height, width, channels) of all decoded images."""
    value_range: tuple[float, float]
    """The values that become 0 and 255, of images of more than 8 bits."""
    decode: Decode

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that identify the files and the form in which they are decoded."""
        digest = hashlib.sha256(repr((self.image_shape, self.value_range)).encode())
        digest.update(os.fsencode("\0".join([str(self.root), *self.names])))
        digest.update(np.ascontiguousarray(self.stamps).data)
        return digest.hexdigest()[:16]

    def decode_into(self, images: ImageArray, place: int, row: int) -> None:
        """Decode the file of a row to `images[place]`.

        Raises:
            DataError: the file is damaged, has changed or is missing.
        """
        path, image = self.root / self.names[row], f"the image '{printable(self.names[row])}'"
        height, width, channels = self.image_shape
        mode, damage = "L" if channels == 1 else "RGB", None
        try:
            images[place] = self.decode(path, (width, height), mode, self.value_range)
        except DataError as error:
            damage = error
        remedy = (
            "Its pixels are decoded whenever they are used. Restore the file, or start a new "
            "search."
        )
        # Afterwards, so that a change during the decoding is noticed, too.
        try:
            is_same = stamp_of(path) == tuple(self.stamps[row].tolist())
        except OSError as error:
            raise DataError(
                f"{image} cannot be read any more ({error.strerror}). {remedy}"
            ) from error
        if not is_same:
            raise DataError(f"{image} has changed since the data was checked. {remedy}")
        if damage is not None:
            raise DataError(f"{image} cannot be read: {damage}.") from damage


def stamp_of(path: Path) -> Stamp:
    """Return the size and the time of modification of a file.

    Raises:
        OSError: the file is missing.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True, eq=False)
class Encoded(ImagesOnDisk):
    """Images that are decoded from some of these files, uint8 (images, height, width, channels)."""

    files: EncodedFiles
    folder: Path | None = None
    """The entry of the cache in which results about the images are stored; None for none."""

    @classmethod
    def whole(cls, files: EncodedFiles, folder: Path | None = None) -> "Encoded":
        """Return the images of all these files."""
        return cls(np.arange(len(files.names)), files.fingerprint, files, folder)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width, channels)."""
        return self.files.image_shape

    def expect(self, rows: Rows) -> None:
        """Begin to decode the images of these rows of the files."""
        BATCHES.expect(self.files, rows)

    def read(self, rows: Rows) -> ImageArray:
        """Decode these rows of the files.

        Raises:
            DataError: a file is damaged, has changed or is missing.
        """
        return BATCHES.read(self.files, rows)


class PendingBatches:
    """The batches that threads of this process are decoding, the oldest first."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._batches: OrderedDict[tuple[EncodedFiles, bytes], Batch] = OrderedDict()

    def expect(self, files: EncodedFiles, rows: Rows) -> None:
        """Begin to decode a batch, unless it was expected already."""
        if self._process != os.getpid():  # after a fork, which does not copy threads
            self.reset()
        key = files, rows.tobytes()
        with self._lock:
            if key in self._batches:
                return
            while len(self._batches) >= AHEAD:
                _cancel(self._batches.popitem(last=False)[1])
            images = np.empty((len(rows), *files.image_shape), np.uint8)
            submit = _decoders(self._process).submit
            self._batches[key] = (
                images,
                [submit(files.decode_into, images, *place) for place in enumerate(rows.tolist())],
            )

    def read(self, files: EncodedFiles, rows: Rows) -> ImageArray:
        """Return a batch, which need not have been expected, when all its images are decoded.

        Raises:
            DataError: a file is damaged, has changed or is missing.
        """
        batch = None
        while batch is None:  # another thread may drop or read it in between
            self.expect(files, rows)
            with self._lock:
                batch = self._batches.pop((files, rows.tobytes()), None)
        try:
            for future in batch[1]:
                future.result()
        except BaseException:
            _cancel(batch)
            raise
        return batch[0]


def _cancel(batch: Batch) -> None:
    """Decode no further images of a batch."""
    for future in batch[1]:
        future.cancel()


BATCHES = PendingBatches()
"""The batches of all data sets of this process."""


@cache
def _decoders(process: int) -> ThreadPoolExecutor:
    """Return the threads that decode images, of the process with this id."""
    return ThreadPoolExecutor(processors(), thread_name_prefix="decoding")


def images_per_second(images: Encoded) -> float:
    """Measure how many images a second all processors decode, on a sample in random order."""
    count = min(SAMPLED, len(images))
    numbers = np.random.default_rng(0).permutation(len(images))[:count]
    start, decoded = time.perf_counter(), 0
    while decoded < count and time.perf_counter() - start < SAMPLE_S:
        decoded += len(images[numbers[decoded : decoded + SAMPLE_BATCH]])
    return decoded / max(time.perf_counter() - start, 1e-9)
