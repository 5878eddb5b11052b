"""Keeps a second driver from a search that has one, where the search is kept in a bucket: its
object `lock.json`.

It is only ever put on condition that it is what this driver has seen there. Who holds it counts up
every few seconds; one that sees the count stand still for long enough takes the search over. Clocks
play no part. Between two looks a holder may not know that it has lost the search: what keeps it
from writing then is the journal's copy, whose pieces are put on the same condition.
"""

import contextlib
import json
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

from cluster.storage.bucket import Bucket, StorageError, Stored, Taken
from search.journal.lease import BEAT_S, FILE_NAME, Held, boot_id, name_of, parsed

PATIENCE_S = 40.0
"""Longer than on a shared folder: a storage that refuses for half a minute keeps a holder from
counting.
"""
FREE, LAST_TRIES = b"{}", 3


class BucketLease:
    """As `search.journal.lease.Lease`."""

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
        """The same place for what is done again and again, or at the end, when nobody wants to
        wait.
        """
        self.mine = {**_here(), "pid": os.getpid(), "token": secrets.token_hex(8)}
        self._tag, self._other = "", ""
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        """Take it.

        Raises:
            Held: another driver has it, and lives.
            StorageError: the storage refuses.
        """
        found = self.place.get()
        if found is not None and not is_free(found):
            found = self._waited_for(found)
        try:
            self._put(self.place, 0, found.tag if found is not None else "")
        except Taken as error:
            raise self._held() from error
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Let go."""
        self._ended.set()
        self._thread.join()
        for _ in range(0 if self._other else LAST_TRIES):
            with contextlib.suppress(StorageError, Taken):
                self.quick.put(FREE, instead_of=self._tag)
                return

    def other(self) -> str:
        """The name of another driver that has the search now, as far as the last look told; empty
        while it is ours.
        """
        return self._other

    def _waited_for(self, found: Stored) -> Stored | None:
        """The lock, once its holder has had time to show that it lives."""
        self.say(
            f"the search was last run by {holder_in(found)}; waiting {self.patience_s:g} s to see whether it still is"
        )
        end = time.monotonic() + self.patience_s
        while time.monotonic() < end:
            time.sleep(min(BEAT_S, self.patience_s) / 2)
            now = self.place.get()
            if now is None or is_free(now):
                return now
            if now.tag != found.tag:
                raise self._held()
        return found

    def _held(self) -> Held:
        found = self.place.get()
        return Held(
            f"the search '{self.name}' is being run by {name_of(parsed(found.content) if found else {})}. Stop that first, or wait for its end."
        )

    def _beat(self) -> None:
        count = 0
        while not self._ended.wait(BEAT_S):
            count += 1
            with contextlib.suppress(StorageError):
                try:
                    self._put(self.quick, count, self._tag)
                except Taken:
                    self._other = holder_in(self.quick.get()) or "another driver"
                    return

    def _put(self, place: Bucket, count: int, tag: str) -> None:
        content = json.dumps({**self.mine, "beat": count}).encode()
        try:
            self._tag = place.put(content, new=not tag, instead_of=tag)
        except Taken:
            there = place.get()  # ourselves, if an answer was lost
            if there is None or parsed(there.content).get("token") != self.mine["token"]:
                raise
            self._tag = there.tag


def is_free(found: Stored) -> bool:
    """Whether a lock binds nobody: it was let go, or who held it was a process of this machine and
    is dead.
    """
    holder = parsed(found.content)
    is_ours = all(holder.get(name) == value for name, value in _here().items())
    return not holder or (is_ours and not psutil.pid_exists(int(holder.get("pid", 0))))


def _here() -> dict[str, str]:
    """Where a process number means something: containers of one machine have numbers of their own."""
    try:
        processes = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        processes = ""
    return {"host": socket.gethostname(), "boot": boot_id(), "processes": processes}


def holder_in(found: Stored | None) -> str:
    """Who runs the search, as its lock says; empty for nobody. Whether a holder still lives cannot
    be seen from here.
    """
    holder = parsed(found.content) if found is not None else {}
    return name_of(holder) if holder else ""
