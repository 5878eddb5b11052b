"""This machine: its free memory, its processors, and the load that other processes put on them."""

import os
import time
from contextlib import suppress
from pathlib import Path

import psutil

from trainables.errors import DataError

CGROUP = Path("/sys/fs/cgroup")
"""The folder of Linux's control groups, which limit a container's memory and processor time.

In version 2 it has the files of the container's own group; in version 1 they are in folders below
`memory` and `cpu`.
"""
OWN_GROUPS = Path("/proc/self/cgroup")
"""In version 1, the file with the groups of this process: a line of number, kind and path each."""


def free_memory(cgroup: Path = CGROUP, own_groups: Path = OWN_GROUPS) -> int:
    """Return the memory that this process can still allocate, in bytes."""
    limits = [
        psutil.virtual_memory().available,
        _left_in(cgroup, "memory.current", "memory.max", ""),
    ]
    with suppress(OSError, ValueError, StopIteration):  # without version 1
        lines = (line.split(":", 2) for line in own_groups.read_text().splitlines())
        path = next(path for _, kinds, path in lines if "memory" in kinds.split(","))
        own = cgroup / "memory" / path.lstrip("/")
        if not own.exists():  # in a container, its own group is often mounted as the topmost one
            own = cgroup / "memory"
        limits.append(_left_in(own, "memory.usage_in_bytes", "memory.limit_in_bytes", "total_"))
    return min(limit for limit in limits if limit is not None)


def _left_in(group: Path, used: str, limit: str, prefix: str) -> int | None:
    """Return the bytes that a control group may still allocate; None if it has no limit.

    Memory for cached files counts as free, because Linux frees it on demand.
    """
    try:
        unused = int((group / limit).read_text()) - int((group / used).read_text())
        details = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        names = {f"{prefix}active_file", f"{prefix}inactive_file"}
        return max(0, unused + sum(int(count) for name, count in details if name in names))
    except (OSError, ValueError):  # there is no limit: it is "max", or the file is missing
        return None


def require_memory(count: int, shape: tuple[int, ...]) -> None:
    """Check that `count` uint8 images of this shape, (height, width, channels), fit into memory.

    Raises:
        DataError: they do not fit.
    """
    height, width, channels = shape
    needed, free = count * height * width * channels, free_memory()
    if needed > free:
        raise DataError(
            f"{count:,} images of {width} x {height} pixels need {gigabytes(needed)} of memory, "
            f"but only {gigabytes(free)} are free. Use smaller images (--set data.image_size=N), "
            "fewer images, or a machine with more memory."
        )


def gigabytes(count: int) -> str:
    """Format a number of bytes in GB: `45 GB`, `1.8 GB`."""
    return f"{count / 1e9:,.0f} GB" if count >= 10**10 else f"{count / 1e9:.1f} GB"


def size_text(count: int) -> str:
    """Format a number of bytes in GB, MB or kB: `45 GB`, `1.8 GB`, `12 MB`, `3 kB`."""
    if count >= 10**9:
        return gigabytes(count)
    return f"{count / 1e6:,.0f} MB" if count >= 10**6 else f"{count / 1e3:,.0f} kB"


def processors(cgroup: Path = CGROUP) -> int:
    """Return the number of processors that this process should use.

    It is the number of processors on which it may run, or less if a container's quota of processor
    time is smaller. One worker per processor is fastest; more of them slow each other down.
    """
    has_affinity = hasattr(os, "sched_getaffinity")  # only on Linux
    allowed = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    files = [cgroup / "cpu.max"]
    if not files[0].exists():
        files = [cgroup / "cpu" / f"cpu.cfs_{name}_us" for name in ("quota", "period")]
    try:  # without a limit, the quota is "max" in version 2, and -1 in version 1
        time_us, period_us = map(int, " ".join(file.read_text() for file in files).split())
    except (OSError, ValueError):
        return allowed
    return max(1, min(allowed, time_us // period_us)) if time_us > 0 and period_us > 0 else allowed


class Load:
    """The load of the machine's processors since this object was created."""

    def __init__(self) -> None:
        self.began, self.own_s = self._times(), time.process_time()
        self.began_s = time.monotonic()

    def of_others(self) -> float:
        """Return the share of all processors' time, 0 to 1, that other processes have used."""
        (idle_before, before), (idle, now) = self.began, self._times()
        if now <= before:
            return 0.0
        own_s = time.process_time() - self.own_s
        return min(1.0, max(0.0, 1 - (idle - idle_before + own_s) / (now - before)))

    def slowdown(self) -> float:
        """Return the factor, at least 1, by which other processes have slowed down this one.

        This is the elapsed time divided by the process's own processor time: it assumes that this
        process has computed all the time, on one processor.
        """
        own_s = time.process_time() - self.own_s
        return max(1.0, (time.monotonic() - self.began_s) / own_s) if own_s > 0 else 1.0

    def _times(self) -> tuple[float, float]:
        """Return the idle time and the total time of all processors, in seconds."""
        times = psutil.cpu_times()
        # The first eight include the times of guests, which are the other numbers.
        return times.idle + getattr(times, "iowait", 0.0), sum(times[:8])
