"""The lease of a search that is stored in a folder: the file `lock.json`.

It prevents two drivers from running one search. The file is locked (flock) while its driver lives:
the kernel releases the lock when the process ends, however it ends. In a folder that machines
share, file locks may not work between them. Therefore the file also names its holder, and contains
a counter that the holder increments every few seconds: a driver that sees the counter unchanged for
long enough takes the search over. Clocks are not compared.
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
"""Maximum number of attempts to lock the file, at intervals of 0.1 seconds.

`FEW_TRIES` applies if the file names a driver that may be alive, otherwise `TRIES`.
"""
MAX_PID = 2**31 - 1
"""The largest process number that system calls accept."""
SIZE = 512
"""Size of the file in bytes. It is overwritten in place, which works on a full disk, too."""


class LeaseHeld(RuntimeError):
    """Another driver holds the lease."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The driver that a lock names; the fields are those of the lock's JSON."""

    host: str = ""
    pid: int = 0
    boot: str = ""
    """The `boot_id` of the driver's machine."""
    processes: str = ""
    """The process namespace of `pid`, since each container has its own; only used in buckets."""
    token: str = ""
    """A random string that identifies the driver."""
    beat: int = 0
    """The counter that the driver increments while it lives."""

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Parse the content of a lock; return a value equal to `NOBODY` if it is not valid."""
        try:
            values = json.loads(content.decode())
            holder_class: Any = cls
            kinds_of(holder_class).check(values)
            holder = cls(**{name: values[name] for name in vars(NOBODY) if name in values})
        except (ValueError, AttributeError, RecursionError):
            return cls()
        return holder if 0 <= holder.pid <= MAX_PID else cls()

    def at(self, beat: int) -> bytes:
        """Return the content of a lock with this holder and this value of its counter."""
        return json.dumps({**vars(self), "beat": beat}).encode()

    def __str__(self) -> str:
        return f"process {self.pid or '?'} on {self.host or 'an unknown host'}"


NOBODY = Holder()


class Lease:
    """The lease of one search, as a context manager.

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
            LeaseHeld: another driver, which is alive, holds it.
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

        The file may be replaced by another one before the lock is granted. Then it is opened again.

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
            f"the search '{self.path.parent.name}' is being run by {holder}. Stop that process "
            "first, or wait until it has finished."
        )

    def other_driver(self) -> str:
        """Name the driver that has taken over the search; empty if none has."""
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
        """Wait to see if a holder on another machine, or from before a reboot, is still alive.

        Raises:
            LeaseHeld: the holder is alive, since the counter has changed.
        """
        before = self._read()
        if before == NOBODY or before.boot == self.mine.boot:
            return
        self.say(
            f"the search was last run by {before}; waiting {self.patience_s:g} s to check "
            "whether that process is still alive"
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
    """Lock the file, with several attempts.

    Several are needed because a process that only looks up the holder (`holder_of`) also locks the
    file: usually for a moment, but longer on a busy machine. If the file names a driver that is
    alive, that driver has the lock, and further attempts are pointless.

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
    """Name the driver that runs the search in this folder; empty if there is none.

    For a driver on another machine, the text adds that it may not be alive.
    """
    try:
        with open_regular(folder / FILE_NAME) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return str(Holder.of(file.read(SIZE)))
            holder = Holder.of(file.read(SIZE))
            is_here = holder == NOBODY or holder.boot == boot_id()
            return "" if is_here else f"{holder}, if it is still alive"
    except FileNotFoundError:
        return ""


def boot_id() -> str:
    """Return an id of this machine that changes with each boot.

    Return the host name if the system has no such id.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()
