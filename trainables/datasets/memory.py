"""Whether the images of a data set fit into this machine's memory."""

import os
from pathlib import Path

from trainables.errors import DataError

CGROUP = Path("/sys/fs/cgroup")
"""Linux's control groups, version 2: what a container may use."""


def free_memory(cgroup: Path = CGROUP) -> int:
    """Return the bytes of memory that this process may still take, as far as the system says so."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        known = dict(line.split(":", 1) for line in lines)
        free = int(known["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        used, limit = (int((cgroup / f"memory.{name}").read_text()) for name in ("current", "max"))
        details = (line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        reclaimable = sum(int(count) for name, count in details if name == "inactive_file")
        return min(free, max(0, limit - used + reclaimable))
    except (OSError, ValueError):  # no limit: "max", or no such file
        return free


def require_memory(count: int, shape: tuple[int, ...]) -> None:
    """See that so many images of this shape, (height, width, channels), fit into memory.

    Raises:
        DataError: they do not.
    """
    height, width, channels = shape
    needed, free = count * height * width * channels, free_memory()
    if needed > free:
        sizes = f"need {gigabytes(needed)} of memory, {gigabytes(free)} are free"
        remedy = "Use smaller ones (--set data.image_size=N), fewer, or a larger machine."
        raise DataError(f"{count:,} images of {width} x {height} pixels {sizes}. {remedy}")


def gigabytes(count: int) -> str:
    """Return `45 GB`, `1.8 GB`."""
    return f"{count / 1e9:,.0f} GB" if count >= 10**10 else f"{count / 1e9:.1f} GB"
