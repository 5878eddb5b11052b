"""A cache on disk for the decoded images of data sets: files of arrays, mapped into memory.

Images that would fill the memory stay in their files (`Mapped`); others are copied when they are
divided into parts. If the cache has no room for the files, images in classes are decoded whenever
they are used (`Encoded`), and the entry has only the list of their files.

An entry is written to a temporary folder (images are decoded directly into it), which is renamed
when it is complete. Its key depends on the names, sizes and modification times of the data set's
files, so that a changed, added or removed file yields another key. The least recently used entries
are removed if the total size becomes too large.
"""

import dataclasses
import hashlib
import json
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.entries import DECODING
from trainables.config import DataConfig
from trainables.datasets.arrays import (
    Allocate,
    Arrays,
    Decoded,
    Images,
    LeftOut,
    NoRoom,
    Part,
    Ragged,
    in_memory,
)
from trainables.datasets.images import files_to_decode
from trainables.disk import (
    LIMIT,
    PARTIAL,
    cache_folder,
    cache_limit,
    evict,
    hold,
    make_private,
    reserve,
)
from trainables.machine import free_memory, gigabytes
from trainables.on_disk import MEMORY_SHARE, Encoded, Mapped, is_large
from trainables.tasks import TASKS

VERSION = 4
"""The version of the format of entries; entries of other versions are ignored."""
ENTRY_FILE = "entry.json"
PARTS = ("train", "val", "test")
GROUPS_FILE = "groups.npy"
SHAPES = "-shapes.npy"
"""The suffix of a file with the shapes of `Ragged` arrays, whose buffer is in another file."""
STAMPS = "-stamps.npy"
"""The suffix of a file with the stamps of a part's files, which are decoded when they are used."""


def read_or_decode(
    config: DataConfig, files: list[Path], make: Callable[[Allocate], Decoded]
) -> Decoded:
    """Read the data set of these files from the cache, or decode it with `make` and cache it."""
    folder = cache_folder() / _key(config, files)
    try:
        return read_entry(folder)
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        share = MEMORY_SHARE if TASKS[config.task].load_targets().are_classes else 1.0
        return _decode_into(folder, make, share)


def _key(config: DataConfig, files: list[Path]) -> str:
    root = str(Path(config.root).resolve())
    settings = [VERSION, DECODING, config.name, root, config.image_size, config.skip_bad]
    task = TASKS[config.task]
    settings += [] if task.is_implied else [config.task]
    settings += [config.scale] if "enlarge" in task.can else []
    digest = hashlib.sha256(json.dumps(settings).encode())
    for path in files:
        status = path.stat() if path.exists() else path.lstat()
        digest.update(os.fsencode(path) + f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:32]


def read_entry(folder: Path) -> Decoded:
    """Read the data set of an entry; its images are mapped into memory, or decoded when used.

    The entry is not evicted as long as images in its files are in use. The fingerprint is computed
    again, to find damage, unless the images are too large for the memory (`is_large`): that would
    take a minute.

    Raises:
        OSError, EOFError, ValueError, KeyError, TypeError: the entry is missing or damaged, or has
            no decoded images although there is room for them now.
    """
    descriptor = hold(folder / ENTRY_FILE)
    try:
        entry = json.loads((folder / ENTRY_FILE).read_text())
        parts = _read_parts(folder, entry, descriptor)
        decoded = Decoded(
            classes=tuple(entry["classes"]),
            train=parts["train"],
            val=parts.get("val"),
            test=parts.get("test"),
            skipped=entry["skipped"],
            value_range=None if entry["value_range"] is None else tuple(entry["value_range"]),
            remarks=tuple(entry["remarks"]),
            left_out=tuple(LeftOut(*fields) for fields in entry["left_out"]),
            groups=np.load(groups, allow_pickle=False)
            if (groups := folder / GROUPS_FILE).exists()
            else None,
        )
        if decoded.train.is_on_disk:
            decoded.__dict__["fingerprint"] = entry["fingerprint"]  # a `cached_property`
            if "root" in entry:
                decoded = _check_encoded(decoded, folder)
        elif decoded.fingerprint != entry["fingerprint"]:
            raise ValueError(f"{folder} is damaged")
        with suppress(OSError):
            os.utime(folder)
    finally:
        os.close(descriptor)
    return decoded


def _read_parts(folder: Path, entry: dict[str, Any], descriptor: int) -> dict[str, Part]:
    """Read the parts of an entry, which `descriptor` locks."""
    parts, is_encoded = {}, "root" in entry
    stay = not is_encoded and _stay_in_files(folder, entry["parts"])
    for name in entry["parts"]:
        file = folder / f"{name}-images.npy"
        images: Arrays
        if is_encoded:
            images = _read_encoded(folder, entry, name)
        elif stay:
            images = Mapped.whole(file, folder / ENTRY_FILE, f"{entry['fingerprint']}-{name}")
        else:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
            weakref.finalize(array, os.close, os.dup(descriptor))
            images = _with_shapes(_plain(array), folder / f"{name}-images{SHAPES}")
        targets = np.load(folder / f"{name}-labels.npy", allow_pickle=False)
        parts[name] = Part(
            images,
            _with_shapes(targets, folder / f"{name}-labels{SHAPES}"),
            None if (names := entry["names"][name]) is None else tuple(names),
        )
    return parts


def _read_encoded(folder: Path, entry: dict[str, Any], part: str) -> Encoded:
    """Read the list of a part's files, which are decoded when they are used."""
    height, width, channels = entry["image_shape"]
    files = files_to_decode(
        Path(entry["root"]),
        entry["names"][part],
        np.load(folder / f"{part}{STAMPS}", allow_pickle=False),
        (height, width, channels),
        None if entry["value_range"] is None else tuple(entry["value_range"]),
    )
    return Encoded.whole(files, folder)


def _stay_in_files(folder: Path, parts: Sequence[str]) -> bool:
    """True if the images of these parts should not be copied; those with masks always are.

    Raises:
        OSError: a file is missing.
    """
    labels = [np.load(folder / f"{name}-labels.npy", mmap_mode="r") for name in parts]
    if any(each.ndim > 1 for each in labels) or any(folder.glob(f"*{SHAPES}")):
        return False
    return is_large(sum((folder / f"{name}-images.npy").stat().st_size for name in parts))


def _check_encoded(decoded: Decoded, folder: Path) -> Decoded:
    """Check that there still is no room for the decoded images of an entry, and add a remark.

    Raises:
        ValueError: there is room now.
    """
    limit, size = cache_limit(folder.parent), _size(decoded)
    if not is_large(size) or size <= min(limit, shutil.disk_usage(folder).free):
        raise ValueError(f"there is room for the decoded images of {folder}")
    return _with_remark(decoded, limit)


def _with_remark(decoded: Decoded, limit: int) -> Decoded:
    """Add a remark that the images are decoded whenever they are used.

    `limit` is that of the cache, in bytes.
    """
    remark = (
        "note: the images are decoded whenever they are used, because decoded they need "
        f"{gigabytes(_size(decoded))}: more than {MEMORY_SHARE:.0%} of the free memory, and more "
        f"than is free on the disk or than the cache may have ({gigabytes(limit)}). If the disk "
        f"has room, {LIMIT}=N allows N GB, which makes trainings faster; smaller images "
        "(--set data.image_size=N) need less."
    )
    changed = dataclasses.replace(decoded, remarks=(*decoded.remarks, remark))
    changed.__dict__["fingerprint"] = decoded.fingerprint  # a `cached_property`
    return changed


def _decode_into(folder: Path, make: Callable[[Allocate], Decoded], share: float) -> Decoded:
    """Decode a data set into a new entry of the cache.

    There is no entry if the cache cannot be written, or if the entry would exceed the limit of the
    whole cache. In both cases no other entry is evicted.

    Args:
        folder: the folder of the entry.
        make: decodes the data set.
        share: the share of the free memory that the images may need without an entry.

    Raises:
        DataError: the images fit neither into the cache nor into memory.
    """
    try:
        make_private(folder.parent)
        limit = cache_limit(folder.parent)
        new = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder.parent))
    except OSError:
        new, limit = None, 0
    space = _Space(new, limit, share)
    try:
        decoded = make(space.allocate)
        is_encoded = decoded.train.is_on_disk
        if new is not None and (is_encoded or _size(decoded) <= limit):
            with suppress(OSError):
                _keep(decoded, new, folder, limit)
    finally:
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)
    if is_encoded or is_large(_size(decoded)):
        with suppress(OSError, ValueError):
            return read_entry(folder)
    return _with_remark(decoded, limit) if is_encoded else decoded


class _Space:
    """Allocates the arrays of a data set: in files of an entry, or else in memory."""

    def __init__(self, entry: Path | None, limit: int, share: float) -> None:
        """Measure the free memory.

        Args:
            entry: the folder of the entry; None if the cache cannot be written.
            limit: the maximum size of the entry, in bytes.
            share: the share of the free memory that the arrays may need.
        """
        self.entry, self.limit, self.share = entry, limit, share
        self.size, self.free = 0, free_memory()
        self.are_in_files = True
        """True if all arrays so far are in files."""

    def allocate(self, title: str, shape: tuple[int, ...]) -> Images:
        """Return an uninitialised array, uint8 of this shape; this function is an `Allocate`.

        Raises:
            NoRoom: the arrays so far and this one fit neither into the entry nor into memory.
        """
        self.size += math.prod(shape)
        images = None
        if self.entry is not None and self.size <= self.limit:
            images = _map_new_file(self.entry / f"{title}-images.npy", shape)
        self.are_in_files = self.are_in_files and images is not None
        # Arrays in files count too: without the others there is no entry, and they are copied.
        if not self.are_in_files and self.size > self.share * self.free:
            raise NoRoom(
                f"the decoded images need at least {gigabytes(self.size)} of memory, but only "
                f"{gigabytes(self.free)} are free, and the cache on the disk is limited to "
                f"{gigabytes(self.limit)}. Raise that limit ({LIMIT}=N), or use smaller "
                "images (--set data.image_size=N), fewer images, or a machine with more memory."
            )
        return in_memory(title, shape) if images is None else images


def _size(decoded: Decoded) -> int:
    parts = (part for part in (decoded.train, decoded.val, decoded.test) if part is not None)
    return sum(part.nbytes for part in parts)


def _keep(decoded: Decoded, new: Path, folder: Path, limit: int) -> None:
    """Complete an entry and move it into place, unless it exceeds the limit of the whole cache.

    An entry without decoded images is small: it has no limit, and no other entry is evicted for it.
    """
    write_entry(new, decoded, is_encoded=decoded.train.is_on_disk)
    with suppress(OSError, EOFError, ValueError, KeyError, TypeError):
        read_entry(folder)
        return  # another process was faster, and perhaps reads it already
    size = sum(path.stat().st_size for path in new.iterdir())
    is_encoded = decoded.train.is_on_disk
    if is_encoded or size <= limit:
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
        if not is_encoded:
            evict(folder.parent, limit, name=ENTRY_FILE, spare=folder)


def _map_new_file(path: Path, shape: tuple[int, ...]) -> Images | None:
    """Create a file that is mapped as an array; None if its space cannot be reserved."""
    with suppress(OSError):
        images: Images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        with path.open("r+b") as file:
            if reserve(file.fileno(), path.stat().st_size):
                return _plain(images)
    path.unlink(missing_ok=True)
    return None


def _plain(mapped: Images) -> Images:
    """Return a plain array that shares the memory of a mapped one.

    Ray shares plain arrays between the processes of a machine, but copies `memmap` objects.
    """
    return np.asarray(mapped)


def _flat(values: Arrays) -> NDArray[Any]:
    """Return an array itself, or the buffer of `Ragged` arrays."""
    flat: NDArray[Any] = values.buffer if isinstance(values, Ragged) else values
    return flat


def _with_shapes(values: NDArray[Any], shapes: Path) -> Arrays:
    """Return `Ragged` arrays with `values` as buffer if `shapes` exists, else `values` itself."""
    return Ragged(values, np.load(shapes, allow_pickle=False)) if shapes.exists() else values


def write_entry(new: Path, decoded: Decoded, *, is_encoded: bool = False) -> None:
    """Write a data set to a folder, for `read_entry`.

    The folder must be empty, except for the files of images that were decoded into it. With
    `is_encoded`, the images are `Encoded`, and only the list of their files is written.
    """
    parts = {name: part for name in PARTS if (part := getattr(decoded, name)) is not None}
    for name, part in parts.items():
        path, images = new / f"{name}-images.npy", _flat(part.images)
        if is_encoded:
            path.unlink(missing_ok=True)
            np.save(new / f"{name}{STAMPS}", part.images.files.stamps, allow_pickle=False)
        elif not path.exists() or np.load(path, mmap_mode="r").shape != images.shape:
            path.unlink(missing_ok=True)
            np.save(path, images, allow_pickle=False)
        np.save(new / f"{name}-labels.npy", _flat(part.targets), allow_pickle=False)
        for kind, values in (("images", part.images), ("labels", part.targets)):
            if isinstance(values, Ragged):
                np.save(new / f"{name}-{kind}{SHAPES}", values.shapes, allow_pickle=False)
    if decoded.groups is not None:
        np.save(new / GROUPS_FILE, decoded.groups, allow_pickle=False)
    entry = {
        "classes": decoded.classes,
        "parts": list(parts),
        "skipped": decoded.skipped,
        "value_range": decoded.value_range,
        "remarks": decoded.remarks,
        "left_out": [dataclasses.astuple(file) for file in decoded.left_out],
        "names": {name: part.names for name, part in parts.items()},
        "fingerprint": decoded.fingerprint,
    }
    if is_encoded:
        files = decoded.train.images.files
        entry |= {"root": str(files.root), "image_shape": files.image_shape}
    (new / ENTRY_FILE).write_text(json.dumps(entry))
    for path in new.iterdir():
        path.chmod(0o600)
