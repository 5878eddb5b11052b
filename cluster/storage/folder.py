"""A folder that has the methods of `Bucket` for storing, reading and removing objects."""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from cluster.storage.bucket import Bucket, StoredObject, WriteConflict


@dataclass(frozen=True)
class ObjectFolder:
    """A folder of objects. Writing the first object creates it, accessible only to its owner."""

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
        """True if there is a regular file of this name."""
        return (self.path / part).is_file()

    def put(self, content: bytes, part: str = "", *, new: bool = False) -> None:
        """Write a file atomically; after this has returned, the file survives a power cut.

        Args:
            content: the whole content.
            part: the file's name relative to this folder.
            new: write it only if there is no file of this name.

        Raises:
            WriteConflict: `new` is set, and there is a file of this name.
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
                # Unlike a rename, a link fails if there is a file of this name.
                path.hardlink_to(partial)
            else:
                partial.replace(path)
            _sync_names(path.parent)
        except FileExistsError as error:
            raise WriteConflict(f"{path} already exists") from error
        finally:
            partial.unlink(missing_ok=True)

    def sizes(self) -> dict[str, int]:
        """List the sizes in bytes of all files below this folder, by their relative names.

        Hidden files, such as partially written ones, are left out.
        """
        sizes = {}
        for path in sorted(self.path.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                with suppress(FileNotFoundError):  # another process has just removed the file
                    sizes[path.relative_to(self.path).as_posix()] = path.stat().st_size
        return sizes

    def remove(self, parts: list[str]) -> None:
        """Remove the files with these names; missing ones are skipped."""
        for part in parts:
            (self.path / part).unlink(missing_ok=True)


def _sync_names(folder: Path) -> None:
    """Flush a folder's directory entries to disk, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


Objects = ObjectFolder | Bucket
"""A store of objects by name."""


def objects(place: Path | Bucket) -> Objects:
    """Wrap a folder as an `ObjectFolder`; a bucket is returned unchanged."""
    return place if isinstance(place, Bucket) else ObjectFolder(place)
