"""How many processors there are for this process."""

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Linux's control groups, which say how many microseconds of processor time there are in each
period of so many microseconds.
"""


def processors(cgroup: Path = CGROUP) -> int:
    """The processors that this process may run on, or fewer where a container is given less time
    than that: one worker for each is fastest, and more than there is time for only get into each
    other's way.
    """
    has_affinity = hasattr(os, "sched_getaffinity")  # Linux alone
    allowed = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    try:
        time_us, period_us = map(int, _quota(cgroup))
    except (OSError, ValueError):  # no quota: "max", or no such file
        return allowed
    return max(1, min(allowed, time_us // period_us)) if time_us > 0 and period_us > 0 else allowed


def _quota(cgroup: Path) -> list[str]:
    """The time and its period, of version 2, or of version 1, where no quota is -1."""
    if (cgroup / "cpu.max").exists():
        return (cgroup / "cpu.max").read_text().split()
    return [(cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")]
