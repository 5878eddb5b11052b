"""Resources arithmetic: what a machine has, and how many trials fit on it at once."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import NotReady

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Linux's control groups, version 2: microseconds of processor time in each period of so many microseconds."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Logical CPUs and GPUs of a machine or a whole cluster."""

    cpus: float
    gpus: float = 0


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What one trial asks for: `workers` processes with so many CPUs and GPUs each."""

    cpus: float = 1
    gpus: float = 0
    workers: int = 1


def local_resources() -> Resources:
    """This machine's processors, as far as this process may use them, and its NVIDIA GPUs."""
    return Resources(cpus=local_cpus(), gpus=local_gpus())


def local_cpus(quota: Path = CGROUP_QUOTA) -> int:
    """The processors that this process may run on, or fewer where a container is given less time than that: one worker for each is fastest, and
    more than there is time for only get into each other's way.
    """
    allowed = len(os.sched_getaffinity(0))
    try:
        time_us, period_us = quota.read_text().split()
        return max(1, min(allowed, int(time_us) // int(period_us)))
    except (OSError, ValueError):  # no quota: "max", or no such file
        return allowed


def local_gpus() -> int:
    """The NVIDIA GPUs that this process may use; found without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    if shutil.which("nvidia-smi") is None:
        return 0
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotReady("nvidia-smi does not answer. Mend the driver, or use --device cpu.") from error
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def slots(have: Resources, demand: Demand) -> int:
    """How many trials run at once.

    Raises:
        NotReady: not even one fits.
    """
    fits = int(have.cpus // (demand.cpus * demand.workers)) if demand.cpus else 10**6
    if demand.gpus and not have.gpus:
        raise NotReady(f"the search asks for {demand.gpus:g} GPU per trial; none found. Use --device cpu.")
    if demand.gpus:
        # A fraction shares one card; it cannot be put together from the rests of two.
        per_card = int(1 // demand.gpus) if demand.gpus < 1 else 0
        fits = min(fits, int(have.gpus) * per_card // demand.workers if per_card else int(have.gpus // (demand.gpus * demand.workers)))
    if fits < 1:
        wanted = f"{demand.cpus * demand.workers:g} CPUs and {demand.gpus * demand.workers:g} GPUs"
        raise NotReady(
            f"one trial asks for {wanted}; there are {have.cpus:g} CPUs and {have.gpus:g} GPUs. Use fewer --workers, --cpus-per-trial or --gpus-per-trial."
        )
    return fits
