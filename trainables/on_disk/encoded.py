"""Images that are decoded from their own files whenever they are used.

This is for images that fit neither into memory nor, decoded, on the disk. The next batch is decoded
by threads while the network is busy with the one before.
"""

import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.errors import DataError, printable
from trainables.on_disk.images import ImagesOnDisk
from trainables.processors import processors

AHEAD = 3
"""The maximum number of batches that wait, decoded, until they are read.

Two are needed: the next batch is expected before the current one is read. Another one is for a
second training in the same process. A batch that is dropped is decoded when it is read.
"""
SAMPLED, SAMPLE_BATCH, SAMPLE_S = 512, 32, 1.0
"""The speed is measured on at most `SAMPLED` images, in batches, for about `SAMPLE_S` seconds."""

Stamp = tuple[int, int]
"""The size of a file in bytes, and the time of its last modification in ns."""
Decode = Callable[[Path, tuple[int, int], str, tuple[float, float]], NDArray[np.uint8]]
"""A function that decodes a file, as `datasets.images.decode` does."""


@dataclass(frozen=True, eq=False)
class EncodedFiles:
    """Image files, and the function that decodes them."""

    root: Path
    """The folder of the files, as an absolute path, for processes with another working folder."""
    names: tuple[str, ...]
    """The path of each file relative to `root`."""
    stamps: NDArray[np.int64]
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

    def decode_into(self, images: NDArray[np.uint8], place: int, row: int) -> None:
        """Decode the file of a row to `images[place]`.

        Raises:
            DataError: the file is damaged, has changed or is missing.
        """
        path = self.root / self.names[row]
        height, width, channels = self.image_shape
        mode = "L" if channels == 1 else "RGB"
        try:
            images[place] = self.decode(path, (width, height), mode, self.value_range)
        except DataError as error:
            self._check_stamp(path, row)
            raise DataError(f"{_quote(self.names[row])} cannot be read: {error}.") from error
        # Afterwards, so that a change during the decoding is noticed, too.
        self._check_stamp(path, row)

    def _check_stamp(self, path: Path, row: int) -> None:
        try:
            is_same = stamp_of(path) == tuple(self.stamps[row].tolist())
        except OSError as error:
            raise DataError(
                f"{_quote(self.names[row])} cannot be read any more ({error.strerror}). Its pixels "
                "are decoded whenever they are used. Restore the file, or start a new search."
            ) from error
        if not is_same:
            raise DataError(
                f"{_quote(self.names[row])} has changed since the data was checked. Its pixels are "
                "decoded whenever they are used. Restore the file, or start a new search."
            )


def _quote(name: str) -> str:
    return f"the image '{printable(name)}'"


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

    def expect(self, rows: NDArray[np.int64]) -> None:
        """Begin to decode the images of these rows of the files, (rows,)."""
        BATCHES.expect(self.files, rows)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode these rows of the files, (rows,).

        Raises:
            DataError: a file is damaged, has changed or is missing.
        """
        return BATCHES.read(self.files, rows)


@dataclass(frozen=True)
class PendingBatch:
    """A batch of images that threads are decoding."""

    images: NDArray[np.uint8]
    futures: Sequence["Future[None]"]

    def wait(self) -> NDArray[np.uint8]:
        """Return the images when all are decoded.

        Raises:
            DataError: a file is damaged, has changed or is missing.
        """
        try:
            for future in self.futures:
                future.result()
        except BaseException:
            self.cancel()
            raise
        return self.images

    def cancel(self) -> None:
        """Decode no further images of the batch."""
        for future in self.futures:
            future.cancel()


class PendingBatches:
    """The batches that threads of this process are decoding, the oldest first."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._batches: OrderedDict[tuple[EncodedFiles, bytes], PendingBatch] = OrderedDict()

    def expect(self, files: EncodedFiles, rows: NDArray[np.int64]) -> None:
        """Begin to decode a batch, unless it was expected already."""
        if self._process != os.getpid():  # after a fork, which does not copy threads
            self.reset()
        key = files, rows.tobytes()
        with self._lock:
            if key in self._batches:
                return
            while len(self._batches) >= AHEAD:
                self._batches.popitem(last=False)[1].cancel()
            images = np.empty((len(rows), *files.image_shape), np.uint8)
            self._batches[key] = PendingBatch(
                images,
                [
                    _decoders(self._process).submit(files.decode_into, images, place, row)
                    for place, row in enumerate(rows.tolist())
                ],
            )

    def read(self, files: EncodedFiles, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return a batch, which need not have been expected.

        Raises:
            DataError: a file is damaged, has changed or is missing.
        """
        key = files, rows.tobytes()
        while True:
            self.expect(files, rows)
            with self._lock:
                batch = self._batches.pop(key, None)
            if batch is not None:  # else another thread has dropped or read it in between
                return batch.wait()


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
