"""SIGINT and SIGTERM, which stop a verb."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cluster.cli import Terminated

_pending_signals: list[int] = []


def stop(number: int, frame: FrameType | None) -> None:
    """Handle SIGINT and SIGTERM while nothing has to be brought to an end first.

    Raises:
        KeyboardInterrupt: it was SIGINT.
        Terminated: it was another.
    """
    _pending_signals.append(number)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def heed_signals() -> None:
    """Stop here if a signal came that did not stop us.

    An exception that a handler raises while an extension module is imported is lost there.
    """
    if _pending_signals:
        stop(_pending_signals.pop(), None)


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGINT and SIGTERM stop what runs within (see `stop`); put all back at its end."""
    _pending_signals.clear()
    before, hook = (
        {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)},
        sys.unraisablehook,
    )
    # A stop that was lost where it could not be raised is not reported: `heed_signals` raises it
    # again.
    sys.unraisablehook = lambda lost: (
        None if isinstance(lost.exc_value, KeyboardInterrupt | Terminated) else hook(lost)
    )
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
