"""The lease of a search that is kept in a bucket: the object `lock.json`.

It keeps a second driver from a search that has one. The object is only ever written on condition
that it is still what this driver last saw there. Its holder increments a count every few seconds;
another driver that sees the count stand still for long enough takes the search over. Clocks play no
part. Between two looks a holder may not know that it has lost the search: what keeps it from
writing then is the journal's copy, whose pieces are written on the same condition.
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
from search.journal.lease import BEAT_S, FILE_NAME, NOBODY, Held, Holder, boot_id

PATIENCE_S = 40.0
"""Longer than on a shared folder: a storage that refuses for half a minute keeps a holder from
counting.
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
        """The same place with few, short retries, for the regular beat and for the release at the
        end.
        """
        self.mine = replace(_here(), pid=os.getpid(), token=secrets.token_hex(8))
        self._tag, self._other = "", ""
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        """Take the lease.

        Raises:
            Held: another driver has it, and lives.
            StorageError: the storage refuses.
        """
        found = self.place.get()
        if found is not None and not is_free(found):
            found = self._wait_for_holder(found)
        try:
            self._put(self.place, 0, found.tag if found is not None else "")
        except WriteConflict as error:
            raise self._held_error() from error
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Release the lease."""
        self._ended.set()
        self._thread.join()
        for _ in range(0 if self._other else LAST_TRIES):
            with contextlib.suppress(StorageError, WriteConflict):
                self.quick.put(FREE, instead_of=self._tag)
                return

    def other(self) -> str:
        """Return the name of another driver that has the search now; empty while it is ours.

        It is the answer of the last look at the lock.
        """
        return self._other

    def _wait_for_holder(self, found: StoredObject) -> StoredObject | None:
        """Return the lock after its holder has had time to show that it lives.

        Raises:
            Held: it does.
        """
        self.say(
            f"the search was last run by {holder_in(found)}; waiting {self.patience_s:g} s to see "
            "whether it still is"
        )
        end = time.monotonic() + self.patience_s
        while time.monotonic() < end:
            time.sleep(min(BEAT_S, self.patience_s) / 2)
            now = self.place.get()
            if now is None or is_free(now):
                return now
            if now.tag != found.tag:
                raise self._held_error()
        return found

    def _held_error(self) -> Held:
        found = self.place.get()
        holder = Holder.of(found.content) if found is not None else NOBODY
        return Held(
            f"the search '{self.name}' is being run by {holder}. Stop that first, or wait for its "
            "end."
        )

    def _beat(self) -> None:
        count = 0
        while not self._ended.wait(BEAT_S):
            count += 1
            with contextlib.suppress(StorageError):
                try:
                    self._put(self.quick, count, self._tag)
                except WriteConflict:
                    self._other = holder_in(self.quick.get()) or "another driver"
                    return

    def _put(self, place: Bucket, count: int, tag: str) -> None:
        content = self.mine.at(count)
        try:
            self._tag = place.put(content, new=not tag, instead_of=tag)
        except WriteConflict:
            there = place.get()  # ourselves, if an answer was lost
            if there is None or Holder.of(there.content).token != self.mine.token:
                raise
            self._tag = there.tag


def is_free(found: StoredObject) -> bool:
    """Return whether a lock binds nobody.

    That is so if it was released, or if its holder was a process of this machine that is dead.
    """
    holder, here = Holder.of(found.content), _here()
    is_ours = replace(here, pid=holder.pid, token=holder.token, beat=holder.beat) == holder
    return holder == NOBODY or (is_ours and not psutil.pid_exists(holder.pid))


def _here() -> Holder:
    """Return what identifies the machine and process namespace of a process number.

    Containers of one machine have process numbers of their own.
    """
    try:
        processes = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        processes = ""
    return Holder(host=socket.gethostname(), boot=boot_id(), processes=processes)


def holder_in(found: StoredObject | None) -> str:
    """Return the driver that runs the search by its lock; empty for none.

    It cannot be told from here if that holder still lives.
    """
    holder = Holder.of(found.content) if found is not None else NOBODY
    return str(holder) if holder != NOBODY else ""
