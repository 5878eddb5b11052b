"""The free memory of this machine, and a check that a data set's images fit into it."""

from pathlib import Path

from trainables.errors import DataError

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
"""The folder of Linux's control groups, which limit a container's memory.

In version 2 it has the files of the container's own group; in version 1 they are in a folder below
`memory`.
"""
OWN_GROUPS = Path("/proc/self/cgroup")
"""In version 1, the file with the groups of this process: a line of number, kind and path each."""
RECLAIMABLE = ("active_file", "inactive_file")
"""The entries of `memory.stat` for cached files, whose memory Linux frees on demand."""


def free_memory(
    memory: Path = MEMINFO, cgroup: Path = CGROUP, own_groups: Path = OWN_GROUPS
) -> int | None:
    """Return the memory that this process can still allocate, in bytes; None if it is unknown."""
    limits = _of_machine(memory), _of_container(cgroup), _of_old_container(cgroup, own_groups)
    return min((limit for limit in limits if limit is not None), default=None)


def _of_machine(memory: Path) -> int | None:
    try:
        fields = dict(line.split(":", 1) for line in memory.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return None


def _of_container(cgroup: Path) -> int | None:
    try:
        used, limit = (int((cgroup / f"memory.{name}").read_text()) for name in ("current", "max"))
        return max(0, limit - used + _reclaimable(cgroup, ""))
    except (OSError, ValueError):  # there is no limit: it is "max", or the file is missing
        return None


def _of_old_container(cgroup: Path, own_groups: Path) -> int | None:
    try:
        lines = (line.split(":", 2) for line in own_groups.read_text().splitlines())
        path = next(path for _, kinds, path in lines if "memory" in kinds.split(","))
        own = cgroup / "memory" / path.lstrip("/")
        if not own.exists():  # in a container, its own group is often mounted as the topmost one
            own = cgroup / "memory"
        used, limit = (
            int((own / f"memory.{name}_in_bytes").read_text()) for name in ("usage", "limit")
        )
        return max(0, limit - used + _reclaimable(own, "total_"))
    except (OSError, ValueError, StopIteration):  # not version 1, or the folder is not to be seen
        return None


def _reclaimable(group: Path, prefix: str) -> int:
    """Return the memory of a group for cached files, in bytes."""
    details = (line.split() for line in (group / "memory.stat").read_text().splitlines())
    names = {f"{prefix}{name}" for name in RECLAIMABLE}
    return sum(int(count) for name, count in details if name in names)


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
