"""A cache on disk for the copies that were found in large data sets."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from trainables.config import DataConfig
from trainables.datasets.arrays import Dataset, Decoded, Part
from trainables.disk import PARTIAL, cache_folder, evict, make_private
from trainables.inspection.copies import Copies, find_copies
from trainables.inspection.matches import parts_of

VERSION = 2
"""The version of the search for copies. Increment it if the results change.

Increment `DECODING` too, because the data without copies, on which searches train, then changes.
"""
FILE = "copies.npz"
MIN_IMAGES, LIMIT = 5000, 100_000_000
"""The minimum number of images for caching, and the maximum total size of the cache in bytes."""
DIVIDED_BY = ("train_limit", "val_limit", "val_fraction", "test_fraction", "split_seed", "folds")
"""The fields of the config that, together with the data's fingerprint, determine the parts."""


def copies_in(dataset: Dataset, config: DataConfig) -> Copies:
    """Return the copies in a split data set, if possible from the cache."""
    identity = [VERSION, dataset.fingerprint, *(getattr(config, name) for name in DIVIDED_BY)]
    return _find_or_read(list(parts_of(dataset).values()), identity)


def copies_before(decoded: Decoded) -> Copies:
    """Return the copies in a data set that is not split yet, if possible from the cache."""
    return _find_or_read(list(decoded.parts.values()), [VERSION, decoded.fingerprint])


def _find_or_read(parts: Sequence[Part], identity: list[object]) -> Copies:
    """Return the copies in these parts, which `identity` identifies in the cache."""
    if sum(map(len, parts)) < MIN_IMAGES:
        return find_copies(parts)
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]
    folder = cache_folder("copies") / key
    try:
        with (folder / FILE).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            stored = Copies(
                arrays["original"], arrays["near"], arrays["mirrored"], str(arrays["limit"])
            )
        folder.touch()  # marks the entry as recently used
        return stored
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        copies = find_copies(parts)
    with suppress(OSError):
        _keep(copies, folder)
    return copies


def _keep(copies: Copies, folder: Path) -> None:
    """Write an entry to a temporary folder, and rename it when it is complete."""
    make_private(folder.parent)
    new = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder.parent))
    try:
        original, near, mirrored, limit = astuple(copies)
        np.savez(new / FILE, original=original, near=near, mirrored=mirrored, limit=limit)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged entry may be there
        new.rename(folder)
        evict(folder.parent, LIMIT, name=FILE, spare=folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
