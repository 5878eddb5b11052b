"""Run a command so that its errors become lines on stderr and an exit code."""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping

from cluster.cli import complain, write_traceback
from cluster.errors import Mistake, NotReady, Refused
from cluster.exit_codes import ExitCode
from cluster.signals import Terminated, stop_on_signals

EXIT_CODES: dict[type[Exception], ExitCode] = {
    Mistake: ExitCode.USAGE,
    Refused: ExitCode.REFUSED,
    NotReady: ExitCode.NOT_READY,
}
"""The exit codes of expected errors, whose text is printed without a traceback. A subclass that is
not listed has the code of its nearest listed base class.
"""


def guarded(
    command: Callable[[], int],
    exit_codes: Mapping[type[Exception], ExitCode] = EXIT_CODES,
    signals: Iterable[int] | None = None,
) -> int:
    """Run a command and return its exit code; print its errors as lines on stderr.

    Args:
        command: runs the command and returns its exit code.
        exit_codes: the expected errors, with their exit codes.
        signals: the signals that stop the command, besides SIGINT. Default: SIGTERM and SIGHUP,
            unless they are ignored, as SIGHUP is under nohup.
    """
    if signals is None:
        signals = [
            number
            for number in (signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) != signal.SIG_IGN
        ]
    with stop_on_signals(signals):
        return _run_to_exit_code(command, exit_codes)


def _run_to_exit_code(
    command: Callable[[], int], exit_codes: Mapping[type[Exception], ExitCode]
) -> int:
    try:
        code = command()
        if sys.stdout is not None:  # it is None if the shell closed it by `>&-`
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output has closed it
        if sys.stdout is not None:
            # Redirect stdout, because Python would flush its buffer at exit, and fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except Terminated:
        print("stopped by SIGTERM", file=sys.stderr)
        return ExitCode.TERMINATED
    except Exception as error:  # noqa: BLE001 - our own bugs become one line too
        return _report(error, exit_codes)


def _report(error: Exception, exit_codes: Mapping[type[Exception], ExitCode]) -> int:
    """Print the error that is being handled, and return the exit code.

    The traceback of an unexpected error is written to a file.
    """
    for kind in type(error).__mro__:
        if kind in exit_codes:
            return complain(error, exit_codes[kind])
    is_system = isinstance(error, OSError)
    cause = (
        f"the operating system reported an error: {error}"
        if is_system
        else f"this is a bug in the program ({type(error).__name__}: {error})"
    )
    return complain(
        RuntimeError(f"{cause}; {write_traceback()}"),
        ExitCode.NOT_READY if is_system else ExitCode.BUG,
    )
