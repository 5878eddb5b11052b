"""A trial whose checkpoints are kept elsewhere than on the machine that trains it."""

import hashlib
import shutil
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

    def pull(self, folder: Path, *, only: str = "") -> None:
        """Make the checkpoints here those that are kept, or one of them, if it is named."""

    def push(self, folder: Path) -> None:
        """Make the checkpoints that are kept those here."""


def folder_here(place: str, mirror: Mirror | None, rank: int = 0) -> Path:
    """The folder in which a process of this machine trains a trial that is kept at `place`: there, or, with a mirror, a copy for each process."""
    if mirror is None:
        return Path(place)
    return _copies(place) / f"rank-{rank}" / Path(place).name


def forget(place: str, mirror: Mirror | None) -> None:
    """Remove this machine's copies of a trial that is kept at `place`, if they are copies."""
    if mirror is not None:
        shutil.rmtree(_copies(place), ignore_errors=True)


def _copies(place: str) -> Path:
    return cache_folder("storage") / "trained" / hashlib.sha256(place.encode()).hexdigest()[:12]
