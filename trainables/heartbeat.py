"""A sign of life of the process that trains: a file, touched at every step, that says where the process is."""

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FILE_NAME = "heartbeat"
EVERY_S = 1.0


class Heartbeat:
    """Call it at every step; it touches its file at most once a second. A disk that refuses is no reason to stop."""

    def __init__(self, folder: Path, *, attempt: int = 1, node: str = "") -> None:
        self.path = folder / FILE_NAME
        self.last = 0.0
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps({"pid": os.getpid(), "node": node, "attempt": attempt}))

    def __call__(self) -> None:
        """Touch the file."""
        now = time.monotonic()
        if now - self.last >= EVERY_S:
            self.last = now
            with suppress(OSError):
                os.utime(self.path)


@dataclass(frozen=True)
class Beat:
    """What a heartbeat file tells."""

    touched_ns: int
    """By the clock of the machine that keeps the file."""
    pid: int
    node: str
    attempt: int


def last_beat(folder: Path) -> Beat | None:
    """A trial's last sign of life; None where there is none."""
    try:
        path = folder / FILE_NAME
        return Beat(path.stat().st_mtime_ns, **json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
