"""The lease of a search that is kept in a folder: its file `lock.json`.

It prevents two drivers from running one search. The file is locked (flock) while its driver lives:
the kernel releases the lock when the process ends, however it ends. The file also names its holder,
and holds a count that is incremented every few seconds. That is for other machines on a shared
folder, between which file locks may not work: a driver that sees no change of the count for long
enough takes the search over. Clocks are not compared.
"""

import contextlib
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from search.journal.kinds import kinds_of
from trainables.disk import open_regular

FILE_NAME = "lock.json"
BEAT_S = 5.0
PATIENCE_S = 20.0
FEW_TRIES, TRIES = 3, 100
"""Tries to lock the file, a tenth of a second apart: if it names a driver that may be alive, and if
it names none.
"""
MAX_PID = 2**31 - 1
"""The largest process number that system calls accept."""
SIZE = 512
"""Bytes of the file. It is overwritten in place, so that it needs no space on a full disk."""


class LeaseHeld(RuntimeError):
    """Another driver has the search."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The driver that a lock names; the fields are those of the lock's JSON."""

    host: str = ""
    pid: int = 0
    boot: str = ""
    """`boot_id` of its machine."""
    processes: str = ""
    """In a bucket: the namespace of `pid`; each container has its own."""
    token: str = ""
    """A random text that identifies the driver."""
    beat: int = 0
    """The count that is incremented while it lives."""

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Parse the content of a lock; `NOBODY` if it is not valid."""
        try:
            values = json.loads(content.decode())
            holder_class: Any = cls
            kinds_of(holder_class).check(values)
            holder = cls(**{name: values[name] for name in vars(NOBODY) if name in values})
        except (ValueError, AttributeError, RecursionError):
            return cls()
        return holder if 0 <= holder.pid <= MAX_PID else cls()

    def at(self, beat: int) -> bytes:
        """Return the content of the lock at this count."""
        return json.dumps({**vars(self), "beat": beat}).encode()

    def __str__(self) -> str:
        return f"process {self.pid or '?'} on {self.host or 'an unknown host'}"


NOBODY = Holder()


class Lease:
    """The lease of one search, held with `with`.

    Check `other_driver` before each write: while this driver was suspended, another one may have
    taken the search over.
    """

    def __init__(
        self,
        folder: Path,
        *,
        say: Callable[[str], None] = lambda text: None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.path, self.say, self.patience_s = folder / FILE_NAME, say, patience_s
        self.mine = Holder(
            host=socket.gethostname(),
            pid=os.getpid(),
            boot=boot_id(),
            token=secrets.token_hex(8),
        )
        self._descriptor = -1
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        """Acquire the lease.

        Raises:
            LeaseHeld: another driver that is alive has it.
        """
        self._descriptor = self._open()
        try:
            self._wait_for_others()
        except LeaseHeld as error:
            raise self._held_error() from error
        self._write(0)
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()
        return self

    def _open(self) -> int:
        """Open and lock the file, and return its descriptor.

        The loop makes sure that it is the file that has the name now, not one that was removed
        before the lock was granted.

        Raises:
            LeaseHeld: another process has locked it.
        """
        while True:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                _lock(self._descriptor)
            except BlockingIOError as error:
                raise self._held_error() from error
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._descriptor), self.path.stat()):
                    return self._descriptor
            os.close(self._descriptor)

    def _held_error(self) -> LeaseHeld:
        holder = self._read()
        os.close(self._descriptor)
        return LeaseHeld(
            f"the search '{self.path.parent.name}' is being run by {holder}. Stop that "
            "first, or wait for its end."
        )

    def other_driver(self) -> str:
        """Name the other driver that has the search now; empty while it is ours."""
        holder = self._read()
        return str(holder) if holder.token not in ("", self.mine.token) else ""

    def __exit__(self, *exception: object) -> None:
        """Release the lease."""
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if self._read().token == self.mine.token:
                os.pwrite(self._descriptor, b" " * SIZE, 0)
        os.close(self._descriptor)

    def _wait_for_others(self) -> None:
        """Wait whether a holder on another machine, or from before a reboot, is still alive.

        Raises:
            LeaseHeld: it is: its count has changed.
        """
        before = self._read()
        if before == NOBODY or before.boot == self.mine.boot:
            return
        self.say(
            f"the search was last run by {before}; waiting {self.patience_s:g} s to see "
            "whether it still is"
        )
        time.sleep(self.patience_s)
        if self._read() not in (NOBODY, before):
            raise LeaseHeld

    def _beat(self) -> None:
        count = 0
        while not self._ended.wait(BEAT_S):
            count += 1
            with contextlib.suppress(OSError):
                if self.other_driver():
                    return
                self._write(count)

    def _write(self, count: int) -> None:
        os.pwrite(self._descriptor, self.mine.at(count).ljust(SIZE), 0)

    def _read(self) -> Holder:
        return Holder.of(os.pread(self._descriptor, SIZE, 0))


def _lock(descriptor: int) -> None:
    """Lock the file, in several tries.

    A process that only looks up the holder (`holder_of`) locks it for a moment, which may be long
    on a busy machine. If the file names a driver that is alive, that driver has the lock, and
    further tries are pointless.

    Raises:
        BlockingIOError: another process has locked it.
    """
    for tried in range(1, TRIES + 1):
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = Holder.of(os.pread(descriptor, SIZE, 0))
            if tried >= (FEW_TRIES if _may_live(holder) else TRIES):
                raise
            time.sleep(0.1)


def _may_live(holder: Holder) -> bool:
    """True unless this machine can see that the driver is dead."""
    return holder != NOBODY and (holder.boot != boot_id() or psutil.pid_exists(holder.pid))


def holder_of(folder: Path) -> str:
    """Name the driver that runs the search in this folder, as far as this machine can see.

    Empty if there is none.
    """
    try:
        with open_regular(folder / FILE_NAME) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return str(Holder.of(file.read(SIZE)))
            holder = Holder.of(file.read(SIZE))
            is_here = holder == NOBODY or holder.boot == boot_id()
            return "" if is_here else f"{holder}, if that still lives"
    except FileNotFoundError:
        return ""


def boot_id() -> str:
    """Return a text that identifies this machine since its last boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()
