"""The folders on the server's machine that a form may name, and their contents."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from search.fetching.images import is_bucket
from trainables.datasets.folder import similar_beside
from trainables.datasets.images import SUFFIXES
from trainables.datasets.names import is_hidden
from trainables.errors import ConfigError, counted, is_text

MAX_ENTRIES, MAX_SHOWN = 20_000, 500
"""Maximum number of entries of a folder that are read, and maximum number of subfolders in a
listing.
"""
MAX_LOOKED = 2_000_000
"""Maximum number of files and folders in which `check_links` searches for links."""


@dataclass(frozen=True)
class Listing:
    """The contents of a folder."""

    path: Path
    above: Path | None
    """The parent folder; None if there is none, or if a form may not name it."""
    folders: tuple[Path, ...]
    """The subfolders."""
    images: int
    """Number of image files directly in the folder."""
    is_cut: bool
    """True if there are more entries than were read, or more folders than are listed."""

    @property
    def holds(self) -> str:
        """The numbers of subfolders and images in words."""
        images = counted(self.images, "image")
        return f"{counted(len(self.folders), 'folder')} and {images}{' or more' * self.is_cut}"


def allowed(text: str, root: Path | None, *, is_file: bool = False) -> Path:
    """Check that a form may name a folder, and return its absolute path.

    Args:
        text: the path of the folder.
        root: the folder that must contain it; None allows any.
        is_file: True if the path must be that of a file instead.

    Raises:
        ConfigError: the path is outside `root`, or is not that of a folder, or of a file.
    """
    if not text or "\0" in text or not is_text(text):
        raise ConfigError(
            "enter the folder that contains the images, for example /home/me/flowers."
        )
    if is_bucket(text):
        raise ConfigError(
            "images in a bucket cannot be chosen on a page. Start the search with "
            f"'python -m search.run --data {text[:200]}'."
        )
    try:
        path = Path(text).expanduser().absolute()
        if root is not None:
            path = path.resolve()
            if not path.is_relative_to(root.resolve()):
                raise ConfigError(
                    f"'{text[:200]}' is not inside '{root}'. On this server, all images must be "
                    f"in '{root}' or in its subfolders."
                )
        if not (path.is_file() if is_file else path.is_dir()):
            kind = "file" if is_file else "folder"
            raise ConfigError(
                f"there is no {kind} '{text[:200]}' on the machine of this server."
                f"{similar_beside(path)}"
            )
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"'{text[:200]}' cannot be read ({reason}).") from None
    return path


def check_links(path: Path, root: Path) -> None:
    """Check that no symbolic link in a folder, or in its subfolders, leads out of the root.

    Args:
        path: the folder, as `allowed` has returned it.
        root: the folder that must contain all targets of links.

    Raises:
        ConfigError: a link leads out of the root, or the folder has more than `MAX_LOOKED` entries.
    """
    root, waiting, count = root.resolve(), [path], 0
    visited = {path}
    while waiting:
        for entry in _entries(waiting.pop()):
            target, count = Path(entry.path), count + 1
            if count > MAX_LOOKED:
                raise ConfigError(
                    f"'{path}' contains more than {MAX_LOOKED:,} files and folders. Choose a "
                    "smaller folder."
                )
            if entry.is_symlink():
                target = target.resolve()
                if not target.is_relative_to(root):
                    text = f"'{entry.path[:200]}' is a link that leads out of '{root}'"
                    raise ConfigError(
                        f"{text}, which is not allowed on this server. Remove the link, or "
                        "choose another folder."
                    )
            elif not entry.is_dir():
                continue
            if target not in visited and target.is_dir():
                visited.add(target)
                waiting.append(target)


def _entries(path: Path) -> Iterator["os.DirEntry[str]"]:
    """Yield the entries of a folder.

    Raises:
        ConfigError: the folder cannot be read.
    """
    try:
        with os.scandir(path) as entries:
            yield from entries
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be read ({error.strerror}).") from error


def listing(path: Path, root: Path | None) -> Listing:
    """List a folder that `allowed` has returned, without its hidden subfolders."""
    entries = list(islice(_entries(path), MAX_ENTRIES))
    folders = sorted(_folders(entries), key=lambda entry: entry.name.lower())
    images = sum(Path(entry.name).suffix.lower() in SUFFIXES for entry in entries)
    is_top = path == path.parent or (root is not None and path == root.resolve())
    is_cut = len(entries) == MAX_ENTRIES or len(folders) > MAX_SHOWN
    visible = tuple(folders[:MAX_SHOWN])
    return Listing(path, None if is_top else path.parent, visible, images, is_cut)


def _folders(entries: list["os.DirEntry[str]"]) -> Iterator[Path]:
    for entry in entries:
        with suppress(OSError):
            if not is_hidden(entry.name) and is_text(entry.name) and entry.is_dir():
                yield Path(entry.path)
