"""SIGINT and SIGTERM, which stop a verb."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cluster.cli import Terminated

_pending_signals: list[int] = []


def stop(number: int, frame: FrameType | None) -> None:
    """Handle SIGINT and SIGTERM where no work has to be finished first.

    Raises:
        KeyboardInterrupt: it was SIGINT.
        Terminated: it was another signal.
    """
    _pending_signals.append(number)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def raise_pending_signal() -> None:
    """Stop here if a signal arrived whose exception was lost.

    An exception that a handler raises while an extension module is imported is lost there.
    """
    if _pending_signals:
        stop(_pending_signals.pop(), None)


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM stop the body (see `stop`); restore the handlers at its end."""
    _pending_signals.clear()
    before, hook = (
        {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)},
        sys.unraisablehook,
    )
    # A stop that was lost where it could not be raised is not reported: `raise_pending_signal` does
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
