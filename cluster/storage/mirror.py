"""Mirror a trial's checkpoints between the machine that trains it and a bucket.

Any machine can resume the trial from the bucket. A checkpoint is a folder. Its manifest contains
the checksums of its other files. The manifest is written last and removed first, so a checkpoint
that has a manifest is complete.
"""

import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from cluster.storage.bucket import Bucket

CHECKPOINT, MANIFEST = "epoch-", "manifest.json"


@dataclass(frozen=True)
class CheckpointMirror:
    """A trial's place in a bucket, as plain values that can be sent to other machines."""

    bucket: Bucket
    """The prefix that contains the trial's checkpoints and small files."""
    beats: Bucket
    """The object that contains the trial's last heartbeat."""

    def read(self, name: str) -> str | None:
        """Read a small file's text; None if there is no such file."""
        stored = self.bucket.get(name)
        return stored.content.decode() if stored is not None else None

    def write(self, name: str, text: str) -> None:
        """Store a small text file; it replaces an existing one."""
        self.bucket.put(text.encode(), name)

    def beat(self, text: str) -> None:
        """Store a heartbeat, which shows that the trial is running; it replaces the last one."""
        self.beats.put(text.encode())

    def names(self) -> list[str]:
        """List the names of the complete checkpoints in the bucket."""
        return list(whole_checkpoints(self.bucket.listing()))

    def pull(self, folder: Path, *, only: str = "") -> None:
        """Copy the complete checkpoints from the bucket to `folder`, except unchanged ones.

        Args:
            folder: the trial's folder on this machine.
            only: the name of the only checkpoint to copy. If it is empty, all checkpoints are
                copied, and those in `folder` that are not in the bucket are removed.
        """
        far = whole_checkpoints(self.bucket.listing())
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
        self,
        folder: Path,
        names_to_keep: Collection[str],
        still_ours: Callable[[], None] = lambda: None,
    ) -> None:
        """Store this machine's checkpoints in the bucket, and remove old ones from it.

        A checkpoint in the bucket is removed if it is older than the newest one here, is not here,
        and is not in `names_to_keep`. The last condition protects the best checkpoint, which may be
        missing here.

        Args:
            folder: the trial's folder on this machine.
            names_to_keep: the names of checkpoints that must not be removed.
            still_ours: raises an exception if another attempt at the trial has started; called
                before a checkpoint is replaced, completed or removed.

        Raises:
            StorageError: the storage refuses. Even then, each checkpoint in the bucket is either
                complete or has no manifest.
        """
        listing = self.bucket.listing()
        far = whole_checkpoints(listing)
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
            self._remove_parts([part for part in listing if part.startswith(f"{name}/")])
            self.bucket.upload(folder, [part for part in files if not is_manifest(part)])
            still_ours()
            self.bucket.upload(folder, [f"{name}/{MANIFEST}"])
        newest = max(map(_number, here), default=0)
        old = {
            name
            for name in {part.partition("/")[0] for part in listing}
            if name.startswith(CHECKPOINT) and _number(name) < newest
        } - {*names_to_keep, *here}
        if old:
            still_ours()
            self._remove_parts([part for part in listing if part.partition("/")[0] in old])

    def drop(self, names: Iterable[str]) -> None:
        """Remove these checkpoints from the bucket; missing ones are ignored."""
        checkpoints = set(names)
        parts = [part for part in self.bucket.listing() if part.partition("/")[0] in checkpoints]
        if parts:
            self._remove_parts(parts)

    def _is_same(self, folder: Path, name: str, files: list[str]) -> bool:
        """True if all files of the checkpoint are here too, and the manifests are equal."""
        if not all((folder / part).is_file() for part in files):
            return False
        stored = self.bucket.get(f"{name}/{MANIFEST}")
        return stored is not None and stored.content == (folder / name / MANIFEST).read_bytes()

    def _remove_parts(self, parts: list[str]) -> None:
        self.bucket.remove([part for part in parts if is_manifest(part)])
        self.bucket.remove([part for part in parts if not is_manifest(part)])


def whole_checkpoints(listing: dict[str, str]) -> dict[str, list[str]]:
    """List the files of each complete checkpoint, by the checkpoint's name.

    `listing` is the result of `Bucket.listing` for the trial's place.
    """
    names = {
        part.partition("/")[0]
        for part in listing
        if part.startswith(CHECKPOINT) and is_manifest(part)
    }
    return {
        name: [part for part in listing if part.startswith(f"{name}/")] for name in sorted(names)
    }


def is_manifest(part: str) -> bool:
    """True for a checkpoint's manifest, but not for that of a fold, which is one folder deeper."""
    return part.count("/") == 1 and part.endswith(f"/{MANIFEST}")


def _number(name: str) -> int:
    number = name.removeprefix(CHECKPOINT)
    return int(number) if number.isascii() and number.isdecimal() else 0


def remove(path: Path) -> None:
    """Remove a checkpoint from this machine, its manifest first; a missing one is ignored."""
    (path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
