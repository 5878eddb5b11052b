"""Checkpoints that are kept elsewhere than on the machine that trains the trial."""

import hashlib
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from trainables.caches import cache_folder, make_private


class Mirror(Protocol):
    """The place where a trial's checkpoints are kept.

    Each method raises OSError when that place refuses.
    """

    def read(self, name: str) -> str | None:
        """Return a small file's text; None if it is not there."""

    def write(self, name: str, text: str) -> None:
        """Store a small file."""

    def beat(self, text: str) -> None:
        """Show that the trial is alive."""

    def names(self) -> list[str]:
        """Return the names of the checkpoints that are there whole."""

    def pull(self, folder: Path, *, only: str = "") -> None:
        """Make the checkpoints in `folder` equal to the kept ones, or only the one named."""

    def push(
        self, folder: Path, wanted: Collection[str], still_ours: Callable[[], None] = lambda: None
    ) -> None:
        """Store the checkpoints that are in `folder`, and remove older ones that are not `wanted`.

        `still_ours` raises where another attempt has begun.
        """


def folder_here(place: str, mirror: Mirror | None, attempt: int, rank: int = 0) -> Path:
    """Return the folder in which a process of this machine trains a trial that is kept at `place`.

    It is `place` itself or, with a mirror, a copy for each attempt and process.
    """
    if mirror is None:
        return Path(place)
    with suppress(OSError):  # what writes there reports why it cannot
        make_private(cache_folder("storage"))
    return _copies(place, attempt) / f"rank-{rank}" / Path(place).name


def forget(place: str, mirror: Mirror | None, attempt: int, rank: int = 0) -> None:
    """Remove a process's copy of a trial that is kept at `place`, if it has one.

    Other processes may still read their own copies.
    """
    if mirror is not None:
        copies = _copies(place, attempt)
        shutil.rmtree(copies / f"rank-{rank}", ignore_errors=True)
        with suppress(OSError):  # others have theirs there
            copies.rmdir()


def _copies(place: str, attempt: int) -> Path:
    return (
        cache_folder("storage")
        / "trained"
        / f"{hashlib.sha256(place.encode()).hexdigest()[:12]}-{attempt}"
    )
