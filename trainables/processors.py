"""The processors that this process may use, and the load that other processes put on them."""

import os
import time
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""The folder of Linux's control groups, which may limit a container's processor time.

Its files have the quota of processor time per period, and that period, both in microseconds.
"""

STAT = Path("/proc/stat")
"""The file in which Linux counts the time of all processors."""
IDLE = (3, 4)
"""The indices of the idle times (idle and iowait) among the numbers in the first line of `STAT`."""
TICKS = os.sysconf("SC_CLK_TCK")
"""The number of ticks per second; `STAT` counts time in ticks."""


def processors(cgroup: Path = CGROUP) -> int:
    """Return the number of processors that this process should use.

    It is the number of processors on which it may run, or less if a container's quota of processor
    time is smaller. One worker per processor is fastest; more of them slow each other down.
    """
    has_affinity = hasattr(os, "sched_getaffinity")  # only on Linux
    allowed = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    try:
        time_us, period_us = map(int, _quota(cgroup))
    except (OSError, ValueError):  # there is no quota: it is "max", or the file is missing
        return allowed
    return max(1, min(allowed, time_us // period_us)) if time_us > 0 and period_us > 0 else allowed


def _quota(cgroup: Path) -> list[str]:
    """Return the texts of the quota and its period, of control groups version 2 or else 1.

    Without a limit, the quota is "max" in version 2, and -1 in version 1.
    """
    if (cgroup / "cpu.max").exists():
        return (cgroup / "cpu.max").read_text().split()
    return [(cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")]


class Load:
    """The load of the machine's processors since this object was created."""

    def __init__(self, stat: Path = STAT) -> None:
        self.stat = stat
        self.began, self.own_s = self._times(), time.process_time()
        self.began_s = time.monotonic()

    def of_others(self) -> float:
        """Return the share of all processors' time, 0 to 1, that other processes have used.

        The result is 0 if the system does not report it.
        """
        (idle_before, before), (idle, now) = self.began, self._times()
        if now <= before:
            return 0.0
        own = (time.process_time() - self.own_s) * TICKS
        return min(1.0, max(0.0, 1 - (idle - idle_before + own) / (now - before)))

    def slowdown(self) -> float:
        """Return the factor, at least 1, by which other processes have slowed down this one.

        This is the elapsed time divided by the process's own processor time: it assumes that this
        process has computed all the time, on one processor.
        """
        own_s = time.process_time() - self.own_s
        return max(1.0, (time.monotonic() - self.began_s) / own_s) if own_s > 0 else 1.0

    def _times(self) -> tuple[int, int]:
        """Return the idle time and the total time of all processors, in ticks."""
        try:
            # The first eight numbers include the times of guests, which are the other numbers.
            ticks = [int(text) for text in self.stat.read_text().split("\n", 1)[0].split()[1:9]]
            return sum(ticks[place] for place in IDLE), sum(ticks)
        except (OSError, ValueError, IndexError):
            return 0, 0
