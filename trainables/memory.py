"""The free memory of this machine, and a check that a data set's images fit into it."""

from pathlib import Path

from trainables.errors import DataError

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
"""The folder of Linux's control groups (version 2), which limit a container's memory."""
RECLAIMABLE = ("active_file", "inactive_file")
"""The entries of `memory.stat` for cached files, whose memory Linux frees on demand."""


def free_memory(memory: Path = MEMINFO, cgroup: Path = CGROUP) -> int | None:
    """Return the memory that this process can still allocate, in bytes; None if it is unknown."""
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
    except (OSError, ValueError):  # there is no limit: it is "max", or the file is missing
        return None


def require_memory(count: int, shape: tuple[int, ...]) -> None:
    """Check that `count` uint8 images of this shape, (height, width, channels), fit into memory.

    If the free memory is unknown, they are assumed to fit.

    Raises:
        DataError: they do not fit.
    """
    height, width, channels = shape
    needed, free = count * height * width * channels, free_memory()
    if free is not None and needed > free:
        sizes = f"need {gigabytes(needed)} of memory, but only {gigabytes(free)} are free"
        remedy = (
            "Use smaller images (--set data.image_size=N), fewer images, or a machine with more "
            "memory."
        )
        raise DataError(f"{count:,} images of {width} x {height} pixels {sizes}. {remedy}")


def gigabytes(count: int) -> str:
    """Format a number of bytes in GB: `45 GB`, `1.8 GB`."""
    return f"{count / 1e9:,.0f} GB" if count >= 10**10 else f"{count / 1e9:.1f} GB"


def size_text(count: int) -> str:
    """Format a number of bytes in GB, MB or kB: `45 GB`, `1.8 GB`, `12 MB`, `3 kB`."""
    if count >= 10**9:
        return gigabytes(count)
    return f"{count / 1e6:,.0f} MB" if count >= 10**6 else f"{count / 1e3:,.0f} kB"
