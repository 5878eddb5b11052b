"""Texts that take seconds to make of a search: one at a time, once for each state of it."""

import asyncio
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from search.views.web.feed import Followed

MAX_KEPT = 4


class Slow:
    """Something that is made in a thread, without holding the search still."""

    def __init__(self, make: Callable[[Followed], str]) -> None:
        self._make, self._lock = make, asyncio.Lock()
        self._known: dict[str, tuple[tuple[str, int], str]] = {}
        """What was made of a search; its id, for another may take its name, and up to which event.
        """

    async def of(self, followed: Followed) -> str:
        """Return it, made anew if the search has gone on since."""
        async with self._lock:
            state = followed.result.started.id, followed.number
            known_state, known = self._known.pop(followed.name, (None, ""))
            if known_state != state:
                known = await run_in_threadpool(self._make, followed)
            self._known[followed.name] = state, known
            if len(self._known) > MAX_KEPT:
                del self._known[next(iter(self._known))]
            return known
