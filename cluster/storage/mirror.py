"""Keep a trial's checkpoints the same on the machine that trains it and in a bucket.

From there any machine can go on with the trial. A checkpoint is a folder. Its manifest, which holds
the checksums of its other files, is stored last and removed first: a checkpoint that has one is
whole.
"""

import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from cluster.storage.bucket import Bucket

CHECKPOINT, MANIFEST = "epoch-", "manifest.json"


@dataclass(frozen=True)
class Mirror:
    """A trial's place in a bucket, as plain values that may cross to other machines."""

    bucket: Bucket
    beats: Bucket
    """The place for the trial's heartbeats."""

    def read(self, name: str) -> str | None:
        """Return a small file's text; None if it is not there."""
        stored = self.bucket.get(name)
        return stored.content.decode() if stored is not None else None

    def write(self, name: str, text: str) -> None:
        """Store a small file."""
        self.bucket.put(text.encode(), name)

    def beat(self, text: str) -> None:
        """Store a heartbeat: the trial lives."""
        self.beats.put(text.encode())

    def names(self) -> list[str]:
        """Return the names of the checkpoints that are whole in the bucket.

        Raises:
            StorageError: the storage refuses.
        """
        return list(whole(self.bucket.listing()))

    def pull(self, folder: Path, *, only: str = "") -> None:
        """Make the checkpoints here equal to those in the bucket, or only the one that is named.

        Raises:
            StorageError: the storage refuses.
        """
        far = whole(self.bucket.listing())
        if not only:
            for path in folder.glob(f"{CHECKPOINT}*"):
                if path.name not in far:
                    remove(path)
        for name, files in far.items():
            if only in ("", name) and not self._is_same(folder, name, files):
                remove(folder / name)
                self.bucket.download(folder, [part for part in files if not is_manifest(part)])
                self.bucket.download(folder, [f"{name}/{MANIFEST}"])

    def push(
        self, folder: Path, wanted: Collection[str], still_ours: Callable[[], None] = lambda: None
    ) -> None:
        """Store the checkpoints that are here, and remove older ones that are not `wanted`.

        A checkpoint that is missing here may still be the best one, so it is not removed for that
        alone.

        Args:
            folder: the trial's folder on this machine.
            wanted: the names of the checkpoints to keep.
            still_ours: raises if another attempt has begun meanwhile; called before anything
                becomes whole, or is removed.

        Raises:
            StorageError: the storage refuses; what was there is whole, or has no manifest any more.
        """
        listing = self.bucket.listing()
        far = whole(listing)
        here = {
            path.parent.name: path.parent
            for path in sorted(folder.glob(f"{CHECKPOINT}*/{MANIFEST}"))
        }
        for name, path in here.items():
            files = [
                file.relative_to(folder).as_posix()
                for file in sorted(path.rglob("*"))
                if file.is_file()
            ]
            if name in far and self._is_same(folder, name, far[name]):
                continue
            still_ours()
            self._take_away([part for part in listing if part.startswith(f"{name}/")])
            self.bucket.upload(folder, [part for part in files if not is_manifest(part)])
            still_ours()
            self.bucket.upload(folder, [f"{name}/{MANIFEST}"])
        newest = max(map(_number, here), default=0)
        old = {
            name
            for name in {part.partition("/")[0] for part in listing}
            if name.startswith(CHECKPOINT) and _number(name) < newest
        } - {*wanted, *here}
        if old:
            still_ours()
            self._take_away([part for part in listing if part.partition("/")[0] in old])

    def drop(self, names: Iterable[str]) -> None:
        """Remove these checkpoints from the bucket, as far as they are there.

        Raises:
            StorageError: the storage refuses.
        """
        wanted = set(names)
        parts = [part for part in self.bucket.listing() if part.partition("/")[0] in wanted]
        if parts:
            self._take_away(parts)

    def _is_same(self, folder: Path, name: str, files: list[str]) -> bool:
        """Return whether the checkpoint in the bucket is the one here.

        That is so if all its files are here and the manifests are equal.
        """
        if not all((folder / part).is_file() for part in files):
            return False
        stored = self.bucket.get(f"{name}/{MANIFEST}")
        return stored is not None and stored.content == (folder / name / MANIFEST).read_bytes()

    def _take_away(self, parts: list[str]) -> None:
        self.bucket.remove([part for part in parts if is_manifest(part)])
        self.bucket.remove([part for part in parts if not is_manifest(part)])


def whole(listing: dict[str, str]) -> dict[str, list[str]]:
    """Return the files of each checkpoint in a listing that is whole, by name."""
    names = {
        part.partition("/")[0]
        for part in listing
        if part.startswith(CHECKPOINT) and is_manifest(part)
    }
    return {
        name: [part for part in listing if part.startswith(f"{name}/")] for name in sorted(names)
    }


def is_manifest(part: str) -> bool:
    """Return whether this is a checkpoint's manifest; a fold's files lie a folder deeper."""
    return part.count("/") == 1 and part.endswith(f"/{MANIFEST}")


def _number(name: str) -> int:
    number = name.removeprefix(CHECKPOINT)
    return int(number) if number.isascii() and number.isdecimal() else 0


def remove(path: Path) -> None:
    """Remove a checkpoint on this machine, its manifest first."""
    (path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
