"""The parts that verbs share: one-line errors and the exit codes.

0 all well, and MLflow has it all · 1 a mistake in this code · 2 the command, config or data is
wrong, nothing started · 3 the search ended, some trials failed · 4 the environment is not ready or
was lost, safe to try again · 5 a person must look: a damaged journal, a search that another driver
has, or that is not what it was · 6 the search ended, and its answer is no
better than guessing (trials may have failed) · 7 something has changed for a model in use
(`search.monitor`) · 130 and 143 stopped by SIGINT and SIGTERM · 141 nobody reads the output any
more.
"""

import argparse
import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil

from cluster.cli import (
    BUG,
    NOT_READY,
    REFUSED,
    USAGE,
    Terminated,
    complain,
    is_whole,
    write_traceback,
)
from cluster.errors import NotReady, Refused
from cluster.storage.bucket import StorageError
from cluster.versions import problems
from search.journal.journal import DamagedJournal, JournalError, TakenOver
from search.journal.lease import Held
from search.journal.store import storage
from search.phrases import DEFAULT_STORAGE
from trainables.errors import ConfigError, Unavailable

SOME_FAILED, AT_CHANCE, CHANGED = 3, 6, 7


class NoBetterThanGuessing(Exception):
    """A model that people would get is no better than guessing."""


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default where there is one that the text does not name."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_named = "(default" in (action.help or "")
        return (
            action.help
            if is_named or action.default in (None, [], False) or action.default is True
            else super()._get_help_string(action)
        )


_pending_signals: list[int] = []


def stop(number: int, frame: FrameType | None) -> None:
    """Handle SIGINT and SIGTERM while nothing has to be brought to an end first.

    Raises:
        KeyboardInterrupt: it was SIGINT.
        Terminated: it was another.
    """
    _pending_signals.append(number)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


@dataclass(frozen=True)
class CommandStart:
    """The beginning of a command, as a moment and by the clock that measures durations."""

    time_ms: int
    """Unix time in milliseconds."""
    clock_s: float
    """The reading of `time.monotonic`."""

    @property
    def ago_s(self) -> float:
        """The seconds since then, those for which the machine was suspended left out."""
        return time.monotonic() - self.clock_s


def command_start() -> CommandStart:
    """Return when this command began.

    If the process is there for the command alone (`python -m search.run`, a job of Ray's too), that
    is the process's start, so that the seconds of Python's own start and of the imports count. If
    Python code calls it, it is now.
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    is_command = spec is not None and spec.name.startswith("search.")
    age_s = process_age_s() if is_command else 0
    return CommandStart(int((time.time() - age_s) * 1000), time.monotonic() - age_s)


def process_age_s() -> float:
    """Return the seconds since this process was started, by a clock that nobody sets."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (AttributeError, IndexError, OSError, ValueError):  # not Linux
        return max(0.0, time.time() - psutil.Process().create_time())


def heed_signals() -> None:
    """Stop here if a signal came that did not stop us.

    An exception that a handler raises while an extension module is imported is lost there.
    """
    if _pending_signals:
        stop(_pending_signals.pop(), None)


def storage_option(parser: argparse.ArgumentParser) -> None:
    """Add NAME and --storage, by which every verb but `run` finds a search."""
    parser.add_argument("name", metavar="NAME", help="the search's name")
    place_option(parser)


def place_option(parser: argparse.ArgumentParser) -> None:
    """Add --storage, the place where searches are kept."""
    parser.add_argument(
        "--storage",
        type=storage,
        default=DEFAULT_STORAGE,
        metavar="PLACE",
        help="where searches are kept: a folder, or s3://BUCKET/PREFIX",
    )


def json_option(parser: argparse.ArgumentParser) -> None:
    """Add --json, by which a program is told what came of a verb."""
    parser.add_argument(
        "--json", action="store_true", help="print the result as one JSON object, the last line"
    )


def check_versions() -> None:
    """Refuse libraries in versions that were never tried, before any of them is used.

    Raises:
        ConfigError: with a line for each.
    """
    if lines := list(problems()):
        raise ConfigError("\n".join(lines))


AUTO_COUNT = "auto"
MAX_SEED = 2**31
"""The upper limit of a seed, as of `seed` in `trainables.config.TrialConfig`."""


def count_or_auto(text: str) -> int | str:
    """Return a number, or `auto`, as an option's type.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    if text != AUTO_COUNT and not is_whole(text.removeprefix("-")):
        raise argparse.ArgumentTypeError(
            f"a whole number or {AUTO_COUNT} is needed (got '{text[:80]}')"
        )
    return text if text == AUTO_COUNT else int(text)


def seed(text: str) -> int:
    """Return a seed, as an option's type.

    Raises:
        argparse.ArgumentTypeError: the text is not a seed.
    """
    if not is_whole(text) or int(text) > MAX_SEED:
        raise argparse.ArgumentTypeError(
            f"a whole number from 0 to {MAX_SEED} is needed (got '{text[:80]}')"
        )
    return int(text)


def leave(code: int) -> NoReturn:
    """End this process.

    All that is registered for its end is done, but its objects are not freed first, which takes the
    longer the larger the libraries are.
    """
    # The steps of Python's own exit that `os._exit` leaves out and that are needed.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


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


def guarded(command: Callable[[], int]) -> int:
    """Run a verb; what it raises on purpose becomes lines on stderr and an exit code."""
    with stoppable():
        return _told(command)


def _told(command: Callable[[], int]) -> int:
    """Run a verb, turning its exceptions into lines and exit codes."""
    try:
        code = command()
        if sys.stdout is not None:  # as it is after `>&-`
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read our output has seen enough
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except ConfigError as error:
        return complain(error, USAGE)
    except (DamagedJournal, TakenOver, Held, Refused) as error:
        return complain(error, REFUSED)
    except JournalError as error:
        return complain(error, USAGE)
    except NoBetterThanGuessing as error:
        return complain(error, AT_CHANCE)
    except (NotReady, Unavailable) as error:
        return complain(error, NOT_READY)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return 128 + signal.SIGINT
    except Terminated:
        print("stopped by SIGTERM", file=sys.stderr)
        return 128 + signal.SIGTERM
    except StorageError as error:
        return complain(
            RuntimeError(f"{error.strerror}. Mend that, or use another --storage."), NOT_READY
        )
    except OSError as error:
        return complain(
            RuntimeError(f"the system refused: {error}. The details are in {write_traceback()}"),
            NOT_READY,
        )
    except Exception as error:  # noqa: BLE001 - a mistake of ours: the user gets a line, and the details in a file
        return complain(
            RuntimeError(
                f"a mistake in the program ({type(error).__name__}: {error}). The details are in "
                f"{write_traceback()}"
            ),
            BUG,
        )
