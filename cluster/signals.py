"""Let signals stop a command by raising an exception in it."""

import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)
_pending_signals: list[int] = []


class Terminated(BaseException):
    """Raised by `stop` for a signal other than SIGINT, such as SIGTERM."""


def stop(number: int, frame: FrameType | None) -> None:
    """Handle a signal by raising an exception immediately.

    This handler is for code that has no work to finish first.

    Raises:
        KeyboardInterrupt: for SIGINT.
        Terminated: for any other signal.
    """
    _pending_signals.append(number)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def raise_pending_signal() -> None:
    """Raise the exception of an earlier signal again if it was lost.

    If a signal arrives while an extension module is being imported, the import may suppress the
    exception that the handler raises.
    """
    if _pending_signals:
        stop(_pending_signals.pop(), None)


@contextmanager
def stop_on_signals(numbers: Iterable[int] = STOPPING) -> Iterator[None]:
    """Let these signals stop the body of the `with` by `stop`; restore the handlers afterwards."""
    _pending_signals.clear()
    before = {number: signal.signal(number, stop) for number in numbers}
    hook = sys.unraisablehook
    # Python prints exceptions that it cannot propagate, such as those in `__del__`. The exceptions
    # of our handler are not printed, because `raise_pending_signal` raises them again.
    sys.unraisablehook = lambda lost: (
        None if isinstance(lost.exc_value, KeyboardInterrupt | Terminated) else hook(lost)
    )
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
