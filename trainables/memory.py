"""The free memory of this machine, and a check that a data set's images fit into it."""

from pathlib import Path

from trainables.errors import DataError

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
"""The folder of Linux's control groups, version 2, which limit what a container may use."""
RECLAIMABLE = ("active_file", "inactive_file")
"""The parts of a container's memory that cache files; Linux frees them on demand."""


def free_memory(memory: Path = MEMINFO, cgroup: Path = CGROUP) -> int | None:
    """Return the bytes of memory that this process may still take; None if they are unknown."""
    free = [limit for limit in (_of_machine(memory), _of_container(cgroup)) if limit is not None]
    return min(free, default=None)


def _of_machine(memory: Path) -> int | None:
    try:
        fields = dict(line.split(":", 1) for line in memory.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return None


def _of_container(cgroup: Path) -> int | None:
    try:
        used, limit = (int((cgroup / f"memory.{name}").read_text()) for name in ("current", "max"))
        details = (line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        reclaimable = sum(int(count) for name, count in details if name in RECLAIMABLE)
        return max(0, limit - used + reclaimable)
    except (OSError, ValueError):  # no limit: "max", or no such file
        return None


def require_memory(count: int, shape: tuple[int, ...]) -> None:
    """Check that `count` images of this shape, (height, width, channels), fit into memory.

    Nothing is checked if the free memory is unknown.

    Raises:
        DataError: they do not fit.
    """
    height, width, channels = shape
    needed, free = count * height * width * channels, free_memory()
    if free is not None and needed > free:
        sizes = f"need {gigabytes(needed)} of memory, {gigabytes(free)} are free"
        remedy = "Use smaller ones (--set data.image_size=N), fewer, or a larger machine."
        raise DataError(f"{count:,} images of {width} x {height} pixels {sizes}. {remedy}")


def gigabytes(count: int) -> str:
    """Return a number of bytes as text: `45 GB`, `1.8 GB`."""
    return f"{count / 1e9:,.0f} GB" if count >= 10**10 else f"{count / 1e9:.1f} GB"


def size_text(count: int) -> str:
    """Return bytes as text: `45 GB`, `1.8 GB`, `12 MB`, `3 kB`."""
    if count >= 10**9:
        return gigabytes(count)
    return f"{count / 1e6:,.0f} MB" if count >= 10**6 else f"{count / 1e3:,.0f} kB"
