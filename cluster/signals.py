"""The signals that stop a command."""

import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)
_pending_signals: list[int] = []


class Terminated(BaseException):
    """A signal other than SIGINT arrived while no clean-up had to be finished first."""


def stop(number: int, frame: FrameType | None) -> None:
    """Handle a signal where no work has to be finished first.

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
def stop_on_signals(numbers: Iterable[int] = STOPPING) -> Iterator[None]:
    """Let these signals stop the body (see `stop`); restore their handlers at its end."""
    _pending_signals.clear()
    before = {number: signal.signal(number, stop) for number in numbers}
    hook = sys.unraisablehook
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
