"""Remote storage of a trial's checkpoints, and the local folder in which the trial trains."""

import hashlib
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from trainables.caches import cache_folder, make_private


class Mirror(Protocol):
    """The remote storage of a trial's checkpoints.

    Each method raises OSError if the storage fails.
    """

    def read(self, name: str) -> str | None:
        """Return the text of a small file; None if it is missing."""

    def write(self, name: str, text: str) -> None:
        """Store a small file."""

    def beat(self, text: str) -> None:
        """Store a heartbeat (`trainables.checkpoints.heartbeat`)."""

    def names(self) -> list[str]:
        """Return the names of the complete checkpoints."""

    def pull(self, folder: Path, *, only: str = "") -> None:
        """Make the checkpoints in `folder` equal to the stored ones.

        If `only` names a checkpoint, no other checkpoint is copied or removed.
        """

    def push(
        self,
        folder: Path,
        names_to_keep: Collection[str],
        still_ours: Callable[[], None] = lambda: None,
    ) -> None:
        """Store the checkpoints in `folder`, and remove old ones from the storage.

        A stored checkpoint stays if it is also in `folder`, or if its name is in `names_to_keep`.
        `still_ours` raises if a newer attempt has started.
        """


def folder_here(place: str, mirror: Mirror | None, attempt: int, rank: int = 0) -> Path:
    """Return the folder in which this process trains the trial that is stored at `place`.

    It is `place` itself or, with a mirror, a local folder for this attempt and process. `rank` is
    the number of the process among those that train the trial.
    """
    if mirror is None:
        return Path(place)
    with suppress(OSError):  # the code that writes to the folder reports the error
        make_private(cache_folder("storage"))
    return _copies(place, attempt) / f"rank-{rank}" / Path(place).name


def forget(place: str, mirror: Mirror | None, attempt: int, rank: int = 0) -> None:
    """Remove the local folder that `folder_here` returned; without a mirror, do nothing."""
    if mirror is not None:
        copies = _copies(place, attempt)
        shutil.rmtree(copies / f"rank-{rank}", ignore_errors=True)
        with suppress(OSError):  # other processes still have folders there
            copies.rmdir()


def _copies(place: str, attempt: int) -> Path:
    return (
        cache_folder("storage")
        / "trained"
        / f"{hashlib.sha256(place.encode()).hexdigest()[:12]}-{attempt}"
    )
