"""The steps of long work, and how far they are, for a command line that shows them.

    with step("decoding images", len(paths)) as advance:
        for path in paths:
            ...
            advance()

Without a `Watcher`, a step costs next to nothing. Several threads may advance the same step.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

Advance = Callable[[], None]
"""Called for each of the things of which a step has a known number, when it is done or begins."""


class Watcher(Protocol):
    """Receives the steps of all threads of this process; its methods must not raise."""

    def begin(self, text: str, total: int | None) -> int:
        """Receive a step that begins; return its number.

        Args:
            text: what is being done, such as "decoding images".
            total: the number of things to do; None if it is unknown.
        """

    def advance(self, number: int) -> None:
        """Receive that one more thing of the step with this number is done, or begins."""

    def end(self, number: int) -> None:
        """Receive that the step with this number has ended."""


_watchers: list[Watcher] = []


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Let a watcher receive the steps that begin in the `with` block."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


@contextmanager
def step(text: str, total: int | None = None) -> Iterator[Advance]:
    """Do a step in the `with` block.

    Args:
        text: what is being done, such as "decoding images".
        total: how often the function that is returned will be called; None if it is unknown.
    """
    if not _watchers:
        yield lambda: None
        return
    watcher = _watchers[-1]
    number = watcher.begin(text, total)
    try:
        yield lambda: watcher.advance(number)
    finally:
        watcher.end(number)
