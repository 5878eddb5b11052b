"""Cached features of a part of a data set.

They are computed once and shared by the trials of a search, its processes, and later searches. Each
kind and part has its own file in the cache (`trainables.disk.cache_folder`), named after a
fingerprint of the images, so that a change of the split, the image size or the files changes the
name, as does the `FeatureKind` of the features.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from trainables.baselines.features import VERSION, Images, Values, compute_features
from trainables.datasets.arrays import Part, PartSubset
from trainables.disk import cache_folder, make_private, sync

LOOK_S = 0.1
"""Seconds between two attempts to acquire the lock."""

Beat = Callable[[], None]


@dataclass(frozen=True)
class FeatureKind:
    """Features that are computed in the same way."""

    name: str
    """The name in the cache."""
    version: str
    """The versions of all that determines the features apart from the images."""
    compute: Callable[[Images, Beat], Values]
    """Computes the features of images, float32 (images, length)."""


def hand_made(name: str) -> FeatureKind:
    """Return the hand-made features of this name in `FEATURES`."""
    return FeatureKind(
        name,
        f"{VERSION}-{version('scikit-image')}",
        lambda images, beat: compute_features(images, name, beat),
    )


def features_of(part: Part, kind: FeatureKind, beat: Beat = lambda: None) -> Values:
    """Load the features of a part's images from the cache, or compute and cache them.

    Args:
        part: the images.
        kind: the features.
        beat: called from time to time while the features are computed or awaited.

    Returns:
        float32 (images, length). Do not write to it: it may be memory-mapped.
    """
    if isinstance(part, PartSubset):  # all folds of a part share its features
        return features_of(part.whole, kind, beat)[part.rows]
    path = _path(part, kind)
    if (values := _read(path, part)) is not None:
        return values
    with _turn(path.with_name(f"{kind.name}.lock"), beat):
        if (values := _read(path, part)) is None:  # another process may have been faster
            values = kind.compute(part.images, beat)
            _write(path, values)
    return values


def are_cached(part: Part, kind: FeatureKind) -> bool:
    """True if the cache has the features of a part's images."""
    whole = part.whole if isinstance(part, PartSubset) else part
    return _read(_path(whole, kind), whole) is not None


def _path(part: Part, kind: FeatureKind) -> Path:
    return cache_folder("features") / f"{kind.name}-{part.fingerprint}-{kind.version}.npy"


def _read(path: Path, part: Part) -> Values | None:
    """Return the stored features, memory-mapped; None if the file is missing or incomplete."""
    try:
        values = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, EOFError, ValueError):
        return None
    return (
        values
        if values.dtype == np.float32 and values.ndim == 2 and len(values) == len(part)
        else None
    )


def _write(path: Path, values: Values) -> None:
    """Write the file atomically: under a temporary name in the same folder, then renamed.

    Errors are ignored: without the file, the features are computed again when they are needed.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(OSError):
        try:
            partial.touch(0o600)
            with partial.open("wb") as file:
                np.save(file, values, allow_pickle=False)
            sync(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def _turn(path: Path, beat: Beat) -> Iterator[None]:
    """Let one process at a time compute the features of a kind; the others wait for the lock.

    If files cannot be locked here, every process computes the features itself.
    """
    try:
        make_private(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        yield
        return
    try:
        _lock(descriptor, beat)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, beat: Beat) -> None:
    """Wait for the lock on an open file, and call `beat` while waiting.

    The system releases the lock if its holder dies. If files cannot be locked here, return without
    the lock.
    """
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            beat()
            time.sleep(LOOK_S)
        except OSError:
            return
