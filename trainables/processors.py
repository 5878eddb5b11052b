"""The processors that there are for this process, and how busy others keep them."""

import os
import time
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""The folder of Linux's control groups, which may limit a container's processor time.

They hold a quota of time and the period in which it may be used, both in microseconds.
"""

STAT = Path("/proc/stat")
"""The file in which Linux counts the time of all processors."""
IDLE = (3, 4)
"""The places, in its first line, of the time in which they had nothing to do."""
TICKS = os.sysconf("SC_CLK_TCK")
"""Its units in a second."""


def processors(cgroup: Path = CGROUP) -> int:
    """Return the number of processors that this process should use.

    These are those that it may run on, or fewer where a container is given less time than that. One
    worker for each is fastest; more workers than there is time for only get into each other's way.
    """
    has_affinity = hasattr(os, "sched_getaffinity")  # Linux alone
    allowed = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    try:
        time_us, period_us = map(int, _quota(cgroup))
    except (OSError, ValueError):  # no quota: "max", or no such file
        return allowed
    return max(1, min(allowed, time_us // period_us)) if time_us > 0 and period_us > 0 else allowed


def _quota(cgroup: Path) -> list[str]:
    """Return the quota of time and its period, of control groups version 2 or 1.

    No quota is "max" in version 2, and -1 in version 1.
    """
    if (cgroup / "cpu.max").exists():
        return (cgroup / "cpu.max").read_text().split()
    return [(cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")]


class Load:
    """The load of the machine's processors, from the moment that this is made."""

    def __init__(self, stat: Path = STAT) -> None:
        self.stat = stat
        self.began, self.own_s = self._times(), time.process_time()
        self.began_s = time.monotonic()

    def of_others(self) -> float:
        """Return the share of all processors' time that other processes have used since.

        0 where no system says so.
        """
        (idle_before, before), (idle, now) = self.began, self._times()
        if now <= before:
            return 0.0
        own = (time.process_time() - self.own_s) * TICKS
        return min(1.0, max(0.0, 1 - (idle - idle_before + own) / (now - before)))

    def slowdown(self) -> float:
        """Return how many times as long this process has taken as it would have had alone.

        It has computed all the time, on one processor.
        """
        own_s = time.process_time() - self.own_s
        return max(1.0, (time.monotonic() - self.began_s) / own_s) if own_s > 0 else 1.0

    def _times(self) -> tuple[int, int]:
        """Return the time in which nothing was to be done, and all time, in ticks."""
        try:
            # A guest's time, behind the first eight numbers, is a part of the others.
            ticks = [int(text) for text in self.stat.read_text().split("\n", 1)[0].split()[1:9]]
            return sum(ticks[place] for place in IDLE), sum(ticks)
        except (OSError, ValueError, IndexError):
            return 0, 0
