"""Checkpoints that are not stored on the machine that trains the trial."""

import hashlib
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from trainables.caches import cache_folder, make_private


class Mirror(Protocol):
    """The place where a trial's checkpoints are stored.

    Each method raises OSError when that place refuses.
    """

    def read(self, name: str) -> str | None:
        """Return the text of a small file; None if it is missing."""

    def write(self, name: str, text: str) -> None:
        """Store a small file."""

    def beat(self, text: str) -> None:
        """Show that the trial is alive."""

    def names(self) -> list[str]:
        """Return the names of the complete checkpoints."""

    def pull(self, folder: Path, *, only: str = "") -> None:
        """Make the checkpoints in `folder`, or only the one named, equal to the stored ones."""

    def push(
        self,
        folder: Path,
        names_to_keep: Collection[str],
        still_ours: Callable[[], None] = lambda: None,
    ) -> None:
        """Store the checkpoints that are in `folder`, and remove older ones, except those named.

        `still_ours` raises if another attempt has begun.
        """


def folder_here(place: str, mirror: Mirror | None, attempt: int, rank: int = 0) -> Path:
    """Return the folder in which a process of this machine trains a trial stored at `place`.

    It is `place` itself or, with a mirror, a copy for each attempt and process.
    """
    if mirror is None:
        return Path(place)
    with suppress(OSError):  # the code that writes there reports the reason
        make_private(cache_folder("storage"))
    return _copies(place, attempt) / f"rank-{rank}" / Path(place).name


def forget(place: str, mirror: Mirror | None, attempt: int, rank: int = 0) -> None:
    """Remove a process's own copy of a trial that is stored at `place`, if it has one."""
    if mirror is not None:
        copies = _copies(place, attempt)
        shutil.rmtree(copies / f"rank-{rank}", ignore_errors=True)
        with suppress(OSError):  # other processes still have copies there
            copies.rmdir()


def _copies(place: str, attempt: int) -> Path:
    return (
        cache_folder("storage")
        / "trained"
        / f"{hashlib.sha256(place.encode()).hexdigest()[:12]}-{attempt}"
    )
