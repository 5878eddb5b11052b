"""The start and the end of the process of a command."""

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
    """The time at which a command started, by the wall clock and by the monotonic clock."""

    time_ms: int
    """Unix time in milliseconds."""
    clock_s: float
    """The value of `time.monotonic` at the start, in seconds."""

    @property
    def ago_s(self) -> float:
        """The seconds since the start, without the time in which the machine was suspended."""
        return time.monotonic() - self.clock_s


def start_now(age_s: float = 0.0) -> CommandStart:
    """Return the time of something that starts now, or `age_s` seconds ago."""
    return CommandStart(int((time.time() - age_s) * 1000), time.monotonic() - age_s)


def command_start() -> CommandStart:
    """Return the time at which this command started.

    If the process runs only this command (`python -m search.run`, also as a job of Ray), the
    command started with the process, so that starting Python and importing modules count. If other
    Python code calls the command, this is the current time.
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    is_command = spec is not None and spec.name.startswith("search.")
    return start_now(process_age_s() if is_command else 0.0)


def process_age_s() -> float:
    """Return the seconds since this process started.

    On Linux they are measured with a clock that is never adjusted.
    """
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (AttributeError, IndexError, OSError, ValueError):  # not Linux
        return max(0.0, time.time() - psutil.Process().create_time())


def leave(code: int) -> NoReturn:
    """End this process with an exit code, without freeing its objects.

    Exit handlers run and streams are flushed, but freeing all objects of large libraries would take
    noticeable time.
    """
    # These steps of Python's usual exit are necessary, and `os._exit` skips them.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
