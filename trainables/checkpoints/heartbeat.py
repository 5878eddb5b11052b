"""A sign of life of the process that trains: a file, touched at every step, that says where the
process is.
"""

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from trainables.checkpoints.remote import Mirror

FILE_NAME = "heartbeat"
EVERY_S, TELL_S = 1.0, 10.0


class Heartbeat:
    """Call it at every step; it touches its file at most once a second. A disk that refuses is no
    reason to stop.
    """

    def __init__(
        self, folder: Path, *, attempt: int = 1, node: str = "", mirror: Mirror | None = None
    ) -> None:
        """With a mirror, what is elsewhere is told of a heartbeat too, less often, and by a thread:
        the trial does not wait for it.
        """
        self.path, self.mirror = folder / FILE_NAME, mirror
        self.last = self.told = 0.0
        self.who = {"pid": os.getpid(), "node": node, "attempt": attempt}
        self._teller: Thread | None = None
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.who))
        if mirror is not None:
            self()

    def __call__(self) -> None:
        """Touch the file."""
        now = time.monotonic()
        if now - self.last >= EVERY_S:
            self.last = now
            with suppress(OSError):
                os.utime(self.path)
            if (
                self.mirror is not None
                and now - self.told >= TELL_S
                and (self._teller is None or not self._teller.is_alive())
            ):
                self.told = now
                self._teller = Thread(
                    target=self._tell, args=[self.mirror, time.time_ns()], daemon=True
                )
                self._teller.start()

    def _tell(self, mirror: Mirror, now_ns: int) -> None:
        with suppress(OSError):
            mirror.beat(json.dumps({"touched_ns": now_ns, **self.who}))


@dataclass(frozen=True)
class Beat:
    """What a heartbeat file tells."""

    touched_ns: int
    """By the clock of the machine that keeps the file, or, with a mirror, of the one that trains."""
    pid: int
    node: str
    attempt: int


def beat_of(text: str) -> Beat | None:
    """What a mirror was told of a heartbeat; None where that says nothing."""
    try:
        return Beat(**json.loads(text))
    except (ValueError, TypeError):
        return None


def last_beats(folders: list[Path]) -> list[Beat | None]:
    """The last sign of life of the trial of each of these folders; None where there is none."""
    return [_last_beat(folder) for folder in folders]


def _last_beat(folder: Path) -> Beat | None:
    try:
        path = folder / FILE_NAME
        return Beat(path.stat().st_mtime_ns, **json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
