"""Detection of a dead driver of a search, from another process."""

import time
from collections.abc import Callable, Sequence

from search.journal.journal import Event
from search.journal.store import Home


class Liveness:
    """Observes the driver of a search: call `look`, then `wait`, repeatedly.

    A driver that was killed on another machine leaves its lock behind, so the existence of a lock
    proves nothing. A living driver changes its lock every few seconds.
    """

    def __init__(self, home: Home, wait: Callable[[float], None] = time.sleep) -> None:
        """Prepare to observe the driver of the search in `home`.

        `wait` sleeps for the number of seconds in its argument.
        """
        self._home, self._wait = home, wait
        self._lock = b""
        self.quiet_s = 0.0
        """The seconds of waiting since the last change of the lock or the journal."""

    def look(self, events: Sequence[Event]) -> None:
        """Read the lock, and check it for changes.

        `events` are the new events of the journal since the last call; they also prove that the
        driver is alive.

        Raises:
            StorageError: the storage fails; the driver counts as quiet until a later call succeeds.
        """
        lock = self._home.lock()
        if events or lock != self._lock:
            self._lock, self.quiet_s = lock, 0.0

    def wait(self, seconds: float) -> None:
        """Sleep for this time, which counts as quiet unless the next `look` finds a change."""
        self._wait(seconds)
        self.quiet_s += seconds

    @property
    def is_lost(self) -> bool:
        """True if the driver has been quiet for longer than a living driver can be."""
        return self.quiet_s > self._home.patience_s
