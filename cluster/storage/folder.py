"""A folder with the methods of `Bucket` that store, read and remove objects.

Code that stores objects can use either of the two.
"""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from cluster.storage.bucket import Bucket, StoredObject, WriteConflict


@dataclass(frozen=True)
class ObjectFolder:
    """A folder that only its owner may read; it is created with the first object in it."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, part: str) -> "ObjectFolder":
        return ObjectFolder(self.path / part)

    def get(self, part: str = "") -> StoredObject | None:
        """Read the file of this name; None if there is none."""
        if not self.has(part):  # reading a named pipe would block
            return None
        try:
            content = (self.path / part).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return StoredObject(content, hashlib.sha256(content).hexdigest())

    def has(self, part: str = "") -> bool:
        """True if there is a file of exactly this name."""
        return (self.path / part).is_file()

    def put(self, content: bytes, part: str = "", *, new: bool = False) -> None:
        """Write a file atomically; it survives a power cut.

        Raises:
            WriteConflict: `new` is set, and there is such a file already.
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
                # A link, unlike a rename, fails if there is such a file already.
                path.hardlink_to(partial)
            else:
                partial.replace(path)
            _sync_names(path.parent)
        except FileExistsError as error:
            raise WriteConflict(f"{path} is there already") from error
        finally:
            partial.unlink(missing_ok=True)

    def sizes(self) -> dict[str, int]:
        """The sizes in bytes of all files below, by their names relative to this folder."""
        sizes = {}
        for path in sorted(self.path.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                with suppress(FileNotFoundError):  # another process has removed the file meanwhile
                    sizes[path.relative_to(self.path).as_posix()] = path.stat().st_size
        return sizes

    def remove(self, parts: list[str]) -> None:
        """Remove the files with these names; missing ones are skipped."""
        for part in parts:
            (self.path / part).unlink(missing_ok=True)


def _sync_names(folder: Path) -> None:
    """Wait until the list of a folder's names would survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


Objects = ObjectFolder | Bucket
"""A place that stores objects by name."""


def objects(place: Path | Bucket) -> Objects:
    """The store of objects in this place."""
    return place if isinstance(place, Bucket) else ObjectFolder(place)
