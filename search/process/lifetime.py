"""The beginning and the end of the process of a command."""

import atexit
import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psutil


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
