"""The number of processors that there are for this process."""

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""The folder of Linux's control groups, which may limit a container's processor time.

They hold a quota of time and the period in which it may be used, both in microseconds.
"""


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
