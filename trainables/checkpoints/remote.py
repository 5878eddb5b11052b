"""A trial whose checkpoints are kept elsewhere than on the machine that trains it."""

import hashlib
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from trainables.caches import cache_folder


class Mirror(Protocol):
    """Where they are kept. Each method raises OSError when that place refuses."""

    def read(self, name: str) -> str | None:
        """A small file's text; None if it is not there."""

    def write(self, name: str, text: str) -> None:
        """Store a small file."""

    def beat(self, text: str) -> None:
        """Show that the trial lives."""

    def names(self) -> list[str]:
        """The checkpoints that are there whole."""

    def pull(self, folder: Path, *, only: str = "") -> None:
        """Make the checkpoints here those that are kept, or one of them, if it is named."""

    def push(
        self, folder: Path, wanted: Collection[str], still_ours: Callable[[], None] = lambda: None
    ) -> None:
        """Store the checkpoints that are here, and remove older ones that are not `wanted`.
        `still_ours` raises where another attempt has begun.
        """


def folder_here(place: str, mirror: Mirror | None, attempt: int, rank: int = 0) -> Path:
    """The folder in which a process of this machine trains a trial that is kept at `place`: there,
    or, with a mirror, a copy for each attempt and process.
    """
    if mirror is None:
        return Path(place)
    return _copies(place, attempt) / f"rank-{rank}" / Path(place).name


def forget(place: str, mirror: Mirror | None, attempt: int, rank: int = 0) -> None:
    """Remove what a process of this machine has of an attempt at a trial that is kept at `place`,
    if that is a copy; others may still read theirs.
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
