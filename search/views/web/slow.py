"""Texts on a search that take seconds to make: one at a time, once for each state of the search."""

import asyncio
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from search.views.web.feed import Followed

MAX_KEPT = 4


class Slow:
    """A cached text that is made in a thread, without locking the search."""

    def __init__(self, make: Callable[[Followed], str]) -> None:
        self._make, self._lock = make, asyncio.Lock()
        self._texts: dict[str, tuple[tuple[str, int], str]] = {}
        """By the search's name, its state and text. The state has the id, since another search may
        take the name, and the number of the last event.
        """

    async def of(self, followed: Followed) -> str:
        """The text, made again if the search has changed."""
        async with self._lock:
            state = followed.result.started.id, followed.number
            text_state, text = self._texts.pop(followed.name, (None, ""))
            if text_state != state:
                text = await run_in_threadpool(self._make, followed)
            self._texts[followed.name] = state, text
            if len(self._texts) > MAX_KEPT:
                del self._texts[next(iter(self._texts))]
            return text
