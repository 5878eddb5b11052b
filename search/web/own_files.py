"""The static files of the pages: scripts, styles and images."""

import hashlib
from functools import cache
from importlib.resources import files

from search.serving.pages.guard import text_of

TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


@cache
def own_files() -> dict[str, bytes]:
    """Read all static files; return their contents by their paths below `static_address()`."""
    folder = files("search.web").joinpath("static")
    shared = {"dropped.js": text_of("dropped.js").encode()}
    return shared | {
        f"{prefix}{file.name}": file.read_bytes()
        for prefix, place in (("", folder), ("vendor/", folder.joinpath("vendor")))
        for file in place.iterdir()
        if file.is_file() and file.name.rpartition(".")[2] in TYPES
    }


@cache
def static_address() -> str:
    """Return the URL path below which the static files are served; it contains a hash of them.

    Browsers cache the files. Because of the hash, pages of a newer server never use cached scripts
    of an older one. Scripts that import each other use relative URLs.
    """
    content = hashlib.sha256()
    for name, file_bytes in sorted(own_files().items()):
        content.update(f"{name} {len(file_bytes)} ".encode() + file_bytes)
    return f"/static/{content.hexdigest()[:12]}"
