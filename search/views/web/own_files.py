"""The scripts and styles of the pages, below an address that changes with their content."""

import hashlib
from functools import cache
from importlib.resources import files

from search.serving.pages.guard import text_of

TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


@cache
def own_files() -> dict[str, bytes]:
    """Return the content of each file, by its path below `static_address()`."""
    folder = files("search.views.web").joinpath("static")
    shared = {"dropped.js": text_of("dropped.js").encode()}
    return shared | {
        f"{prefix}{one.name}": one.read_bytes()
        for prefix, place in (("", folder), ("vendor/", folder.joinpath("vendor")))
        for one in place.iterdir()
        if one.is_file() and one.name.rpartition(".")[2] in TYPES
    }


@cache
def static_address() -> str:
    """Return the address of the folder of these files.

    Browsers keep them. With a version in the address, pages of a newer server never run with the
    scripts of an older one; scripts that import each other name each other relative to it.
    """
    content = hashlib.sha256()
    for name, one in sorted(own_files().items()):
        content.update(f"{name} {len(one)} ".encode() + one)
    return f"/static/{content.hexdigest()[:12]}"
