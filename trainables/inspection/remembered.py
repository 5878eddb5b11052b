"""The copies that were found in large data sets, on disk: they are looked for once."""

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

from trainables.caches import PARTIAL, cache_folder, evict, make_private
from trainables.config import DataConfig
from trainables.datasets.arrays import Dataset, Decoded, Part
from trainables.inspection.copies import Copies, find_copies
from trainables.inspection.matches import parts_of

VERSION = 2
"""The version of how copies are found, raised when others are found.

With it `DECODING` is raised, since a search without its copies has other data then.
"""
FILE = "copies.npz"
MIN_IMAGES, LIMIT = 5000, 100_000_000
"""Copies among fewer images are looked for each time; the bytes of all entries together."""
DIVIDED_BY = ("train_limit", "val_limit", "val_fraction", "test_fraction", "split_seed", "folds")
"""Fields of the config that say, with the data's fingerprint, which images are in which part."""


def copies_in(dataset: Dataset, config: DataConfig) -> Copies:
    """Return the copies in a data set: found now, or before."""
    about = [VERSION, dataset.fingerprint, *(getattr(config, name) for name in DIVIDED_BY)]
    return _found(list(parts_of(dataset).values()), about)


def copies_before(decoded: Decoded) -> Copies:
    """Return the copies in a data set that is not divided yet: found now, or before."""
    return _found(list(decoded.parts.values()), [VERSION, decoded.fingerprint])


def _found(parts: Sequence[Part], about: list[object]) -> Copies:
    """Return the copies among the images of these parts, which `about` tells from all others."""
    if sum(map(len, parts)) < MIN_IMAGES:
        return find_copies(parts)
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]
    folder = cache_folder("copies") / key
    try:
        with (folder / FILE).open("rb") as file, np.load(file, allow_pickle=False) as kept:
            known = Copies(kept["original"], kept["near"], kept["mirrored"], str(kept["limit"]))
        folder.touch()  # the least recently used goes first
        return known
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        found = find_copies(parts)
    with suppress(OSError):
        _keep(found, folder)
    return found


def _keep(copies: Copies, folder: Path) -> None:
    """Write an entry beside its place, and put it there when it is whole.

    Raises:
        OSError: the disk is full or refuses.
    """
    make_private(folder.parent)
    new = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder.parent))
    try:
        original, near, mirrored, limit = astuple(copies)
        np.savez(new / FILE, original=original, near=near, mirrored=mirrored, limit=limit)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        new.rename(folder)
        evict(folder.parent, LIMIT, name=FILE, spare=folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
