"""Exported models on disk: that of a search is exported once, and used again."""

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from trainables.caches import PARTIAL, cache_folder, evict, make_private
from trainables.disk import sync
from trainables.export.predictor import ABOUT

LIMIT = 5 * 10**9
"""The bytes of all models together; those that were not used for longest go first."""


def key_of(*about: object) -> str:
    """Return the key of the model that these plain values tell from all others."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def fetch(key: str, into: Path) -> bool:
    """Copy the model with this key into a new folder; return whether it was kept."""
    folder = cache_folder("exported") / key
    try:
        os.utime(folder)  # the least recently used goes first
        (folder / ABOUT).stat()
        shutil.copytree(folder, into)
    except OSError:
        shutil.rmtree(into, ignore_errors=True)
        return False
    return True


def keep(model: Path, key: str) -> None:
    """Keep a copy of the model in this folder, unless the disk refuses."""
    folder = cache_folder("exported") / key
    with suppress(OSError):
        make_private(folder.parent)
        new = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder.parent))
        try:
            shutil.copytree(model, new, dirs_exist_ok=True)
            for path in [*new.rglob("*"), new]:
                sync(path)
            new.rename(folder)
            evict(folder.parent, LIMIT, name=ABOUT, spare=folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
