"""A sign of life of the process that trains: a file, touched at every step, that says where the process is."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path

FILE_NAME = "heartbeat"
EVERY_S = 1.0


class Heartbeat:
    """Call it at every step; it touches its file at most once a second. A disk that refuses is no reason to stop."""

    def __init__(self, folder: Path, *, node: str = "") -> None:
        self.path = folder / FILE_NAME
        self.last = 0.0
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps({"pid": os.getpid(), "node": node}))

    def __call__(self) -> None:
        """Touch the file."""
        now = time.monotonic()
        if now - self.last >= EVERY_S:
            self.last = now
            with suppress(OSError):
                os.utime(self.path)


def last_beat(folder: Path) -> tuple[int, int, str] | None:
    """When the file was touched last (nanoseconds, by its machine's clock), the process and its node; None where there is no file."""
    try:
        path = folder / FILE_NAME
        written = json.loads(path.read_text())
        return path.stat().st_mtime_ns, int(written["pid"]), str(written["node"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
