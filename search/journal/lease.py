"""Keeps a second driver from a search that has one: `lock.json` in the search's folder.

The file is locked (flock) while its driver lives: the kernel lets go when the process ends, however
it ends. It also says who holds it, and counts up every few seconds, for other machines on a shared
folder whose locks do not reach each other: one that sees the count stand still for long enough
takes the search over. Clocks play no part.
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
from pathlib import Path
from typing import Any, Self

FILE_NAME = "lock.json"
BEAT_S = 5.0
PATIENCE_S = 20.0
SIZE = 512
"""Bytes of the file; it is written over in place, so that it needs no room on a full disk."""


class Held(RuntimeError):
    """Another driver has the search."""


class Lease:
    """Hold it with `with`. Ask `other` before you write: a driver that was stopped for long may
    have been taken over.
    """

    def __init__(
        self,
        folder: Path,
        *,
        say: Callable[[str], None] = lambda text: None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.path, self.say, self.patience_s = folder / FILE_NAME, say, patience_s
        self.mine = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "boot": boot_id(),
            "token": secrets.token_hex(8),
        }
        self._descriptor = -1
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        """Take it.

        Raises:
            Held: another driver has it, and lives.
        """
        self._descriptor = self._open()
        try:
            self._wait_for_others()
        except Held as error:
            raise self._held() from error
        self._write(0)
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()
        return self

    def _open(self) -> int:
        """The locked file; the one that has its name, not one that was removed before the lock
        came.
        """
        while True:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                _lock(self._descriptor)
            except BlockingIOError as error:
                raise self._held() from error
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._descriptor), self.path.stat()):
                    return self._descriptor
            os.close(self._descriptor)

    def _held(self) -> Held:
        holder = self._read()
        os.close(self._descriptor)
        return Held(
            f"the search '{self.path.parent.name}' is being run by {name_of(holder)}. Stop that first, or wait for its end."
        )

    def other(self) -> str:
        """The name of another driver that has the search now; empty while it is ours."""
        holder = self._read()
        return name_of(holder) if holder.get("token") not in (None, self.mine["token"]) else ""

    def __exit__(self, *exception: object) -> None:
        """Let go."""
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if self._read().get("token") == self.mine["token"]:
                os.pwrite(self._descriptor, b" " * SIZE, 0)
        os.close(self._descriptor)

    def _wait_for_others(self) -> None:
        """A holder of another machine, or of this one before a reboot, has time to show that it
        lives.
        """
        before = self._read()
        if not before or before.get("boot") == self.mine["boot"]:
            return
        self.say(
            f"the search was last run by {name_of(before)}; waiting {self.patience_s:g} s to see whether it still is"
        )
        time.sleep(self.patience_s)
        if self._read() not in ({}, before):
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
        os.pwrite(
            self._descriptor, json.dumps({**self.mine, "beat": count}).ljust(SIZE).encode(), 0
        )

    def _read(self) -> dict[str, Any]:
        return parsed(os.pread(self._descriptor, SIZE, 0))


def _lock(descriptor: int) -> None:
    """Lock the file; one who only looks who holds it (`holder_of`) lets go at once."""
    for last in (False, False, True):
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if last:
                raise
            time.sleep(0.1)


def holder_of(folder: Path) -> str:
    """Who runs the search in this folder now, as far as this machine can tell; empty for nobody."""
    try:
        with (folder / FILE_NAME).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return name_of(parsed(file.read(SIZE)))
            holder = parsed(file.read(SIZE))
            return (
                ""
                if holder.get("boot") == boot_id() or not holder
                else f"{name_of(holder)}, if that still lives"
            )
    except FileNotFoundError:
        return ""


def name_of(holder: dict[str, Any]) -> str:
    """A holder in words."""
    return f"process {holder.get('pid', '?')} on {holder.get('host', 'an unknown host')}"


def boot_id() -> str:
    """Differs between machines, and between two starts of one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def parsed(content: bytes) -> dict[str, Any]:
    """What a lock says; nothing if that cannot be read."""
    try:
        values = json.loads(content.decode())
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
