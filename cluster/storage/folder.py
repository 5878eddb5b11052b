"""A folder with the methods of `Bucket` that keep, find and remove objects.

What keeps objects in a place need not know which of the two it is.
"""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from cluster.storage.bucket import Bucket, Stored, Taken


@dataclass(frozen=True)
class Folder:
    """A folder that nobody else may read; it is made with the first object in it."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, part: str) -> "Folder":
        return Folder(self.path / part)

    def get(self, part: str = "") -> Stored | None:
        """Return the file of this name; None if there is none."""
        if not self.has(part):  # to open a named pipe would block
            return None
        try:
            content = (self.path / part).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Stored(content, hashlib.sha256(content).hexdigest())

    def has(self, part: str = "") -> bool:
        """Return whether there is a file of exactly this name."""
        return (self.path / part).is_file()

    def put(self, content: bytes, part: str = "", *, new: bool = False) -> None:
        """Write a file, whole or not at all; it survives a power cut.

        Raises:
            Taken: it was to be `new`, and there is one already.
        """
        path = self.path / part
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
        partial.touch(mode=0o600)
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if new:
                path.hardlink_to(partial)
            else:
                partial.replace(path)
            _sync_names(path.parent)
        except FileExistsError as error:
            raise Taken(f"{path} is there already") from error
        finally:
            partial.unlink(missing_ok=True)

    def sizes(self) -> dict[str, int]:
        """Return the bytes of all files below, by their names relative to this folder."""
        found = {}
        for path in sorted(self.path.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                with suppress(FileNotFoundError):  # another process has removed it meanwhile
                    found[path.relative_to(self.path).as_posix()] = path.stat().st_size
        return found

    def remove(self, parts: list[str]) -> None:
        """Remove the files of these names, as far as they are there."""
        for part in parts:
            (self.path / part).unlink(missing_ok=True)


def _sync_names(folder: Path) -> None:
    """Wait until the list of a folder's names would survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


Objects = Folder | Bucket
"""A place that keeps objects by name."""


def objects(place: Path | Bucket) -> Objects:
    """Return what keeps objects in this place."""
    return place if isinstance(place, Bucket) else Folder(place)
