"""The lease of a search that is kept in a folder: its file `lock.json`.

It keeps a second driver from a search that has one. The file is locked (flock) while its driver
lives: the kernel releases it when the process ends, however it ends. It also names its holder, and
holds a count that goes up every few seconds, for other machines on a shared folder whose locks do
not reach each other: one that sees the count stand still for long enough takes the search over.
Clocks play no part.
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
"""Tries to lock the file, a tenth of a second apart, where it names a driver that may live, and
where it names none.
"""
MAX_PID = 2**31 - 1
"""The largest process number that the system's calls take."""
SIZE = 512
"""Bytes of the file; it is overwritten in place, so that it needs no room on a full disk."""


class Held(RuntimeError):
    """Another driver has the search."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The driver that a lock names, field by field as the lock has it."""

    host: str = ""
    pid: int = 0
    boot: str = ""
    """`boot_id` of its machine."""
    processes: str = ""
    """In a bucket: the namespace of its process number, of which containers have their own."""
    token: str = ""
    """A text that no other driver has."""
    beat: int = 0
    """The count that goes up while it lives."""

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Return the holder that a lock names; `NOBODY` if it cannot be read."""
        try:
            values = json.loads(content.decode())
            made: Any = cls
            kinds_of(made).check(values)
            found = cls(**{name: values[name] for name in vars(NOBODY) if name in values})
        except (ValueError, AttributeError, RecursionError):
            return cls()
        return found if 0 <= found.pid <= MAX_PID else cls()

    def at(self, beat: int) -> bytes:
        """Return the content of its lock at this count."""
        return json.dumps({**vars(self), "beat": beat}).encode()

    def __str__(self) -> str:
        return f"process {self.pid or '?'} on {self.host or 'an unknown host'}"


NOBODY = Holder()


class Lease:
    """The lease of one search, held with `with`.

    Ask `other` before each write: a driver that was suspended for long may have been taken over.
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
        """Take the lease.

        Raises:
            Held: another driver has it, and lives.
        """
        self._descriptor = self._open()
        try:
            self._wait_for_others()
        except Held as error:
            raise self._held_error() from error
        self._write(0)
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()
        return self

    def _open(self) -> int:
        """Return the descriptor of the locked file.

        It is the file that has the name now, not one that was removed before the lock was granted.

        Raises:
            Held: another process has it locked.
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

    def _held_error(self) -> Held:
        holder = self._read()
        os.close(self._descriptor)
        return Held(
            f"the search '{self.path.parent.name}' is being run by {holder}. Stop that "
            "first, or wait for its end."
        )

    def other(self) -> str:
        """Return the name of another driver that has the search now; empty while it is ours."""
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
        """Give a holder that this machine cannot see time to show that it lives.

        That is one on another machine, or on this one before a reboot.

        Raises:
            Held: it does.
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
            raise Held

    def _beat(self) -> None:
        count = 0
        while not self._ended.wait(BEAT_S):
            count += 1
            with contextlib.suppress(OSError):
                if self.other():
                    return
                self._write(count)

    def _write(self, count: int) -> None:
        os.pwrite(self._descriptor, self.mine.at(count).ljust(SIZE), 0)

    def _read(self) -> Holder:
        return Holder.of(os.pread(self._descriptor, SIZE, 0))


def _lock(descriptor: int) -> None:
    """Lock the file, with more tries.

    A process that only looks up the holder (`holder_of`) locks it for a moment, which a busy
    machine may draw out. A driver has it where the file names one that lives.

    Raises:
        BlockingIOError: another has it locked.
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
    """Return whether a driver lives, as far as this machine can see."""
    return holder != NOBODY and (holder.boot != boot_id() or psutil.pid_exists(holder.pid))


def holder_of(folder: Path) -> str:
    """Return the driver that runs the search in this folder now; empty for none.

    It is told as far as this machine can see.
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
    """Return a text that differs between machines, and between two starts of one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()
