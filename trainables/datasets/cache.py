"""The decoded images of a data set on disk: files of arrays, which are mapped into memory.

An entry is written in a folder beside (images are decoded straight into it), which is renamed when
it is whole. Its key is made of the names, sizes and times of the data set's files: a changed, added
or removed file gives another. The least recently used entries are removed when all together become
too large.
"""

import dataclasses
import hashlib
import json
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.caches import PARTIAL, cache_folder, cache_limit, evict, hold, make_private
from trainables.catalog.datasets import DECODING
from trainables.catalog.tasks import DEFAULT_TASK
from trainables.config import DataConfig
from trainables.datasets.arrays import (
    Allocate,
    Arrays,
    Decoded,
    Images,
    LeftOut,
    Part,
    Ragged,
    in_memory,
)

VERSION = 4
"""The version of an entry's files, raised when they change so that older ones are not taken."""
ABOUT = "entry.json"
PARTS = ("train", "val", "test")
SHAPES = "-shapes.npy"
"""The end of the name of a file with the shapes of ragged arrays, whose buffer is beside it."""


def cached(config: DataConfig, files: list[Path], make: Callable[[Allocate], Decoded]) -> Decoded:
    """Return the data set of these files, from the cache or as `make` decodes it."""
    folder = cache_folder() / _key(config, files)
    try:
        return read_entry(folder)
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return _made(folder, make)


def _key(config: DataConfig, files: list[Path]) -> str:
    root = str(Path(config.root).resolve())
    about = [VERSION, DECODING, config.name, root, config.image_size, config.skip_bad]
    about += [config.task] if config.task != DEFAULT_TASK else []
    digest = hashlib.sha256(json.dumps(about).encode())
    for path in files:
        status = path.stat() if path.exists() else path.lstat()
        digest.update(os.fsencode(path) + f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:32]


def read_entry(folder: Path) -> Decoded:
    """Return the data set of an entry, with its arrays mapped into memory.

    The entry is not evicted while they are in use.

    Raises:
        OSError, ValueError, ...: it is not there, or not as it was written.
    """
    descriptor = hold(folder / ABOUT)
    try:
        entry = json.loads((folder / ABOUT).read_text())
        parts = {}
        for name in entry["parts"]:
            images = np.load(folder / f"{name}-images.npy", mmap_mode="r", allow_pickle=False)
            weakref.finalize(images, os.close, os.dup(descriptor))
            targets = np.load(folder / f"{name}-labels.npy", allow_pickle=False)
            parts[name] = Part(
                _shaped(_plain(images), folder / f"{name}-images{SHAPES}"),
                _shaped(targets, folder / f"{name}-labels{SHAPES}"),
                None if (names := entry["names"][name]) is None else tuple(names),
            )
        decoded = Decoded(
            classes=tuple(entry["classes"]),
            train=parts["train"],
            val=parts.get("val"),
            test=parts.get("test"),
            skipped=entry["skipped"],
            value_range=None if entry["value_range"] is None else tuple(entry["value_range"]),
            remarks=tuple(entry["remarks"]),
            left_out=tuple(LeftOut(*one) for one in entry["left_out"]),
        )
        if decoded.fingerprint != entry["fingerprint"]:
            raise ValueError(f"{folder} is damaged")
        with suppress(OSError):
            os.utime(folder)
    finally:
        os.close(descriptor)
    return decoded


def _made(folder: Path, make: Callable[[Allocate], Decoded]) -> Decoded:
    """Decode a data set into a new entry.

    The data set is decoded without one where the cache cannot be written, or where the entry alone
    would be larger than all may be together: no other is evicted for it.
    """
    try:
        make_private(folder.parent)
        limit = cache_limit(folder.parent)
        new = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder.parent)) if limit else None
    except OSError:
        new = None
    if new is None:
        return make(in_memory)
    left = limit

    def allocate(title: str, shape: tuple[int, ...]) -> Images:
        nonlocal left
        left -= math.prod(shape)
        return in_memory(title, shape) if left < 0 else _mapped(new / f"{title}-images.npy", shape)

    try:
        decoded = make(allocate)
        if _size(decoded) <= limit:
            with suppress(OSError):
                _keep(decoded, new, folder, limit)
        return decoded
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _size(decoded: Decoded) -> int:
    """Return the bytes of all images and targets."""
    parts = (part for part in (decoded.train, decoded.val, decoded.test) if part is not None)
    return sum(part.nbytes for part in parts)


def _keep(decoded: Decoded, new: Path, folder: Path, limit: int) -> None:
    """Complete an entry and put it in its place, unless its files are larger than all may be.

    Raises:
        OSError: the disk is full or refuses.
    """
    write_entry(new, decoded)
    if sum(path.stat().st_size for path in new.iterdir()) <= limit:
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
        evict(folder.parent, limit, name=ABOUT, spare=folder)


def _mapped(path: Path, shape: tuple[int, ...]) -> Images:
    """Return a new file as an array, or an array in memory where there is no room for the file.

    Its place on disk is taken at once: writing to a map of a full disk would end the process.
    """
    try:
        images: Images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except (OSError, AttributeError):  # no room, or no such call on this system
        path.unlink(missing_ok=True)
        return in_memory(path.stem, shape)
    return _plain(images)


def _plain(mapped: Images) -> Images:
    """Return a map as a plain array over it.

    Ray shares plain arrays with all processes of a machine, and copies maps into each.
    """
    return np.asarray(mapped)


def _flat(values: Arrays) -> NDArray[Any]:
    """Return an array as it is, and of ragged ones the buffer."""
    found: NDArray[Any] = values.buffer if isinstance(values, Ragged) else values
    return found


def _shaped(values: NDArray[Any], shapes: Path) -> Arrays:
    """Return the array, or the ragged ones of which it is the buffer."""
    return Ragged(values, np.load(shapes, allow_pickle=False)) if shapes.exists() else values


def write_entry(new: Path, decoded: Decoded) -> None:
    """Write a data set into an empty folder, where `read_entry` finds it."""
    parts = {name: part for name in PARTS if (part := getattr(decoded, name)) is not None}
    for name, part in parts.items():
        path, images = new / f"{name}-images.npy", _flat(part.images)
        if not path.exists() or np.load(path, mmap_mode="r").shape != images.shape:
            path.unlink(missing_ok=True)
            np.save(path, images, allow_pickle=False)
        np.save(new / f"{name}-labels.npy", _flat(part.targets), allow_pickle=False)
        for kind, values in (("images", part.images), ("labels", part.targets)):
            if isinstance(values, Ragged):
                np.save(new / f"{name}-{kind}{SHAPES}", values.shapes, allow_pickle=False)
    entry = {
        "classes": decoded.classes,
        "parts": list(parts),
        "skipped": decoded.skipped,
        "value_range": decoded.value_range,
        "remarks": decoded.remarks,
        "left_out": [dataclasses.astuple(one) for one in decoded.left_out],
        "names": {name: part.names for name, part in parts.items()},
        "fingerprint": decoded.fingerprint,
    }
    (new / ABOUT).write_text(json.dumps(entry))
    for path in new.iterdir():
        path.chmod(0o600)
