"""Where is kept what can be made or brought again."""

import os
from pathlib import Path


def cache_folder(kind: str = "decoded") -> Path:
    """Where decoded arrays, or those of another kind, are kept: `$XDG_CACHE_HOME` or `~/.cache`, then `image-classifier-search`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "image-classifier-search" / kind
