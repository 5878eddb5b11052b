"""Cached texts on a search that take seconds to compute."""

import asyncio
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from search.web.feed import Followed

MAX_KEPT = 4


class Slow:
    """Computes a text once for each state of a search, without locking the search.

    Only one text is computed at a time, in a thread.
    """

    def __init__(self, make: Callable[[Followed], str]) -> None:
        self._make, self._lock = make, asyncio.Lock()
        self._texts: dict[str, tuple[tuple[str, int], str]] = {}
        """The state and the text of each search, by its name. The state consists of the search's
        id, since another search may reuse the name, and the number of the last event.
        """

    async def of(self, followed: Followed) -> str:
        """Return the text of a search, computed again if the search has changed."""
        async with self._lock:
            state = followed.result.started.id, followed.number
            text_state, text = self._texts.pop(followed.name, (None, ""))
            if text_state != state:
                text = await run_in_threadpool(self._make, followed)
            self._texts[followed.name] = state, text
            if len(self._texts) > MAX_KEPT:
                del self._texts[next(iter(self._texts))]
            return text
