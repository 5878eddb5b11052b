"""The lease of a search that is stored in a bucket: the object `lock.json`.

It prevents two drivers from running one search. Each write is conditional: it succeeds only if the
object is still the one that this driver saw last. The holder increments a counter every few
seconds; another driver that sees the counter unchanged for long enough takes the search over.
Clocks are not compared. A holder that has just lost the search may not know it yet. Even then it
cannot write to the journal, since the pieces of the journal's copy are written conditionally, too.
"""

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Self

import psutil

from cluster.storage.bucket import Bucket, StorageError, StoredObject, WriteConflict
from search.journal.lease import BEAT_S, FILE_NAME, NOBODY, Holder, LeaseHeld, boot_id

PATIENCE_S = 40.0
"""Seconds without a change of the counter after which a holder counts as dead.

This is longer than for a shared folder, because a holder cannot increment its counter while the
storage fails, which may last half a minute.
"""
FREE, LAST_TRIES = b"{}", 3


class BucketLease:
    """The counterpart of `search.journal.lease.Lease` for a bucket."""

    def __init__(
        self,
        place: Bucket,
        name: str,
        *,
        say: Callable[[str], None] = lambda text: None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.place, self.name, self.say, self.patience_s = place / FILE_NAME, name, say, patience_s
        self.quick = replace(self.place, quick=True)
        """The same object with few and short retries, for heartbeats and the final release."""
        self.mine = replace(_here(), pid=os.getpid(), token=secrets.token_hex(8))
        self._tag, self._other_driver = "", ""
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        """Acquire the lease.

        Raises:
            LeaseHeld: another driver, which is alive, holds it.
        """
        stored = self.place.get()
        if stored is not None and not is_free(stored):
            stored = self._wait_for_holder(stored)
        try:
            self._put(self.place, 0, stored.tag if stored is not None else "")
        except WriteConflict as error:
            raise self._held_error() from error
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Release the lease."""
        self._ended.set()
        self._thread.join()
        for _ in range(0 if self._other_driver else LAST_TRIES):
            with contextlib.suppress(StorageError, WriteConflict):
                self.quick.put(FREE, instead_of=self._tag)
                return

    def other_driver(self) -> str:
        """Name the driver that has taken over the search; empty if the last beat found none."""
        return self._other_driver

    def _wait_for_holder(self, stored: StoredObject) -> StoredObject | None:
        """Wait until the holder counts as dead or releases the lock, and return the current lock.

        The wait takes at most `patience_s`. The result is None if the lock was removed.

        Raises:
            LeaseHeld: the holder is alive, since it has changed the lock.
        """
        self.say(
            f"the search was last run by {holder_in(stored) or 'an unknown process'}; waiting "
            f"{self.patience_s:g} s to check whether that process is still alive"
        )
        end = time.monotonic() + self.patience_s
        while time.monotonic() < end:
            time.sleep(min(BEAT_S, self.patience_s) / 2)
            current = self.place.get()
            if current is None or is_free(current):
                return current
            if current.tag != stored.tag:
                raise self._held_error()
        return stored

    def _held_error(self) -> LeaseHeld:
        stored = self.place.get()
        holder = Holder.of(stored.content) if stored is not None else NOBODY
        return LeaseHeld(
            f"the search '{self.name}' is being run by {holder}. Stop that process first, or wait "
            "until it has finished."
        )

    def _beat(self) -> None:
        count = 0
        while not self._ended.wait(BEAT_S):
            count += 1
            with contextlib.suppress(StorageError):
                try:
                    self._put(self.quick, count, self._tag)
                except WriteConflict:
                    self._other_driver = holder_in(self.quick.get()) or "another process"
                    return

    def _put(self, place: Bucket, count: int, tag: str) -> None:
        content = self.mine.at(count)
        try:
            self._tag = place.put(content, new=not tag, instead_of=tag)
        except WriteConflict:
            stored = place.get()  # it may be our own write, if its response was lost
            if stored is None or Holder.of(stored.content).token != self.mine.token:
                raise
            self._tag = stored.tag


def is_free(stored: StoredObject) -> bool:
    """True if the lock was released, or its holder is a dead process of this process namespace."""
    holder, here = Holder.of(stored.content), _here()
    is_ours = replace(here, pid=holder.pid, token=holder.token, beat=holder.beat) == holder
    return holder == NOBODY or (is_ours and not psutil.pid_exists(holder.pid))


def _here() -> Holder:
    """Describe the machine and the process namespace of this process.

    Containers on one machine number their processes independently. Therefore the host and the
    process number alone do not identify a process.
    """
    try:
        processes = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        processes = ""
    return Holder(host=socket.gethostname(), boot=boot_id(), processes=processes)


def holder_in(stored: StoredObject | None) -> str:
    """Name the driver that a lock records, which may have ended; empty if it records none."""
    holder = Holder.of(stored.content) if stored is not None else NOBODY
    return str(holder) if holder != NOBODY else ""
