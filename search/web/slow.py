"""A cache of texts about searches, for texts that take seconds to compute."""

import asyncio
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from search.web.feed import Followed

MAX_KEPT = 4
"""Maximum number of searches whose text is cached."""


class Slow:
    """Computes a text about a search, and caches it until the search changes.

    Only one text is computed at a time, in a thread. The search is not locked meanwhile.
    """

    def __init__(self, make: Callable[[Followed], str]) -> None:
        self._make, self._lock = make, asyncio.Lock()
        self._texts: dict[str, tuple[tuple[str, int], str]] = {}
        """The state and the text of each search, by its name. The state is the id of the search,
        since a new search may have the same name, and the number of its last event.
        """

    async def of(self, followed: Followed) -> str:
        """Return the text about a search; compute it again if the search has changed."""
        async with self._lock:
            state = followed.result.started.id, followed.number
            text_state, text = self._texts.pop(followed.name, (None, ""))
            if text_state != state:
                text = await run_in_threadpool(self._make, followed)
            self._texts[followed.name] = state, text
            if len(self._texts) > MAX_KEPT:
                del self._texts[next(iter(self._texts))]
            return text
