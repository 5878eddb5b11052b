"""The heartbeat of a process that trains: a file that it writes as long as it makes progress.

The file contains the process ID, the machine, the number of the attempt, and the number of
epochs that are done, with the share of the current one.
"""

import json
import os
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Self

from trainables.disk import read_regular
from trainables.messages import Mirror

FILE_NAME = "heartbeat"
EVERY_S, SEND_S = 1.0, 10.0
"""The minimum seconds between two touches of the file, and between two messages to the mirror.

A mirror is the remote storage of a trial's checkpoints (`Mirror`).
"""


class Heartbeat:
    """A heartbeat, to be called at every step; it writes its file at most once a second.

    Disk errors are ignored, because they are no reason to stop training.
    """

    def __init__(
        self, folder: Path, *, attempt: int = 1, node: str = "", mirror: Mirror | None = None
    ) -> None:
        """Write the heartbeat file, and send a heartbeat to `mirror`, the remote storage, if given.

        The mirror gets fewer heartbeats than the file. A thread sends them, so that training does
        not wait for the mirror.
        """
        self.path, self.mirror = folder / FILE_NAME, mirror
        self.last_touch = self.last_message = 0.0
        self.identity = {"pid": os.getpid(), "node": node, "attempt": attempt}
        self.epochs_done: Callable[[], float] = lambda: 0.0
        """Returns the number of epochs that are done, with the share of the current one."""
        self._sender: Thread | None = None
        self._file: int | None = None
        """The descriptor of the open file; None if it could not be opened."""
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_name(f".{FILE_NAME}.{os.getpid()}.{attempt}")
            self._file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            weakref.finalize(self, os.close, self._file)
            os.write(self._file, self._text())
            # An earlier attempt that still runs goes on writing to its own file, which has no name.
            partial.replace(self.path)
        if mirror is not None:
            self()

    def __call__(self) -> None:
        """Write the file at most every `EVERY_S` s; message the mirror at most every `SEND_S` s."""
        now = time.monotonic()
        if now - self.last_touch < EVERY_S:
            return
        self.last_touch = now
        if self._file is not None:
            try:
                # In one call, and always of the same length: readers find a whole text.
                os.pwrite(self._file, self._text(), 0)
            except OSError:  # on a full disk, at least renew the time of the last change
                with suppress(OSError):
                    os.utime(self._file)
        is_sending = self._sender is not None and self._sender.is_alive()
        if self.mirror is not None and now - self.last_message >= SEND_S and not is_sending:
            self.last_message = now
            self._sender = Thread(
                target=self._send, args=[self.mirror, time.time_ns()], daemon=True
            )
            self._sender.start()

    def _send(self, mirror: Mirror, now_ns: int) -> None:
        with suppress(OSError):
            mirror.beat(json.dumps({"touched_ns": now_ns, **json.loads(self._text())}))

    def _text(self) -> bytes:
        epochs = f"{self.epochs_done():.4f}".ljust(12)
        return f'{json.dumps(self.identity)[:-1]}, "epochs": {epochs}}}'.encode()


@dataclass(frozen=True)
class Beat:
    """The content of a heartbeat file, and the time of its last touch."""

    touched_ns: int
    """The time of the last touch, in nanoseconds since 1970.

    It is measured by the clock of the machine that stores the file or, with a mirror, of the
    machine that trains.
    """
    pid: int
    node: str
    attempt: int
    epochs: float = 0.0
    """The number of epochs that are done, with the share of the current one; 0 if not known."""

    @classmethod
    def parse(cls, text: str | bytes, **touched: int) -> Self | None:
        """Parse a heartbeat; None if the text is not valid.

        `touched` is `touched_ns`, which only a heartbeat that was sent to a mirror contains.
        Values that only later versions know are ignored.
        """
        with suppress(ValueError, TypeError):
            values = {**touched, **json.loads(text)}
            return cls(**{key: values[key] for key in values if key in cls.__dataclass_fields__})
        return None


def last_beats(folders: list[Path]) -> list[Beat | None]:
    """Return the last heartbeat of the trial in each of these folders, or None if it has none."""
    beats: list[Beat | None] = []
    for path in (folder / FILE_NAME for folder in folders):
        try:
            touched_ns = path.stat().st_mtime_ns
            beats.append(Beat.parse(read_regular(path), touched_ns=touched_ns))
        except OSError:
            beats.append(None)
    return beats
