"""The guard around every command: its errors become lines on stderr and exit codes."""

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
"""The expected errors of commands, each printed as it is. A class also stands for its subclasses
that are not listed themselves.
"""


def guarded(
    command: Callable[[], int],
    exit_codes: Mapping[type[Exception], ExitCode] = EXIT_CODES,
    signals: Iterable[int] | None = None,
) -> int:
    """Run a command and return its exit code; print its errors as lines on stderr.

    Args:
        command: returns the exit code.
        exit_codes: the errors that are expected.
        signals: those that stop the command. Default: SIGTERM and SIGHUP, each unless it is
            ignored, as SIGHUP is after nohup; Python itself stops at SIGINT.
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
        if sys.stdout is not None:  # as it is after `>&-`
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output has closed it
        if sys.stdout is not None:
            # The rest of the buffer would fail again when Python flushes it at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except Terminated:
        print("stopped by SIGTERM", file=sys.stderr)
        return ExitCode.TERMINATED
    except Exception as error:  # noqa: BLE001 - also a mistake of ours becomes a line
        return _report(error, exit_codes)


def _report(error: Exception, exit_codes: Mapping[type[Exception], ExitCode]) -> int:
    """Print an error that is being handled, and return the exit code.

    The details of an unexpected one are written to a file.
    """
    for kind in type(error).__mro__:
        if kind in exit_codes:
            return complain(error, exit_codes[kind])
    is_system = isinstance(error, OSError)
    cause = (
        f"the system refused: {error}"
        if is_system
        else f"a mistake in the program ({type(error).__name__}: {error})"
    )
    return complain(
        RuntimeError(f"{cause}. The details are in {write_traceback()}"),
        ExitCode.NOT_READY if is_system else ExitCode.BUG,
    )
