"""A cache of exported models on disk, so that no model is exported twice."""

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from trainables.disk import PARTIAL, cache_folder, evict, make_private, sync
from trainables.predictors.base import DESCRIPTION

LIMIT = 5 * 10**9
"""The maximum total size of the models, in bytes; the least recently used are removed first."""


def key_of(*identity: object) -> str:
    """Return the key of the model that these JSON-compatible values identify."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def fetch(key: str, into: Path) -> bool:
    """Copy the model with this key from the cache to `into`, which must not exist.

    Returns:
        True on success; False if the model is not in the cache or cannot be copied.
    """
    folder = cache_folder("exported") / key
    try:
        os.utime(folder)  # marks the entry as recently used
        (folder / DESCRIPTION).stat()
        shutil.copytree(folder, into)
    except OSError:
        shutil.rmtree(into, ignore_errors=True)
        return False
    return True


def keep(model: Path, key: str) -> None:
    """Add a copy of the model in this folder to the cache; errors of the disk are ignored."""
    folder = cache_folder("exported") / key
    with suppress(OSError):
        make_private(folder.parent)
        new = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder.parent))
        try:
            shutil.copytree(model, new, dirs_exist_ok=True)
            for path in [*new.rglob("*"), new]:
                sync(path)
            new.rename(folder)
            evict(folder.parent, LIMIT, name=DESCRIPTION, spare=folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
