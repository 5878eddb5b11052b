"""Is a search's driver still alive, as seen from another process?"""

import time
from collections.abc import Callable, Sequence

from search.journal.journal import Event
from search.journal.store import Home


class Liveness:
    """Observes the driver of a search between waits.

    A driver that was killed on another machine leaves its lock behind, so a lock alone proves
    nothing. A driver that lives changes its lock every few seconds.
    """

    def __init__(self, home: Home, wait: Callable[[float], None] = time.sleep) -> None:
        """Begin to observe; `wait` sleeps for this number of seconds."""
        self._home, self._wait = home, wait
        self._lock = b""
        self.quiet_s = 0.0
        """The time that was waited since the lock or the journal last changed."""

    def look(self, events: Sequence[Event]) -> None:
        """Read the lock; `events` are those that the journal has had since the last look.

        Raises:
            StorageError: the storage refuses; the driver then counts as quiet.
        """
        lock = self._home.lock()
        if events or lock != self._lock:
            self._lock, self.quiet_s = lock, 0.0

    def wait(self, seconds: float) -> None:
        """Sleep until the next look."""
        self._wait(seconds)
        self.quiet_s += seconds

    @property
    def is_lost(self) -> bool:
        """True if the driver has been quiet for longer than one that lives can be."""
        return self.quiet_s > self._home.patience_s
