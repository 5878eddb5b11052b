"""CPUs and GPUs of machines, and the number of trials that fit on them."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from cluster.errors import NotReady

MANY = 10**6
"""A number that stands for "no limit"."""


def resources_text(cpus: float, gpus: float) -> str:
    """Format numbers of CPUs and GPUs, such as "1 CPU and 0.5 GPUs"."""
    return f"{cpus:g} CPU{'s' * (cpus != 1)} and {gpus:g} GPU{'s' * (gpus != 1)}"


@dataclass(frozen=True, kw_only=True)
class Demand:
    """The resources that a trial needs: `workers` processes, each with `cpus` and `gpus`."""

    cpus: float = 1
    gpus: float = 0
    workers: int = 1

    @property
    def in_words(self) -> str:
        """The total over all processes in words, such as "2 CPUs and 0.5 GPUs"."""
        return resources_text(self.cpus * self.workers, self.gpus * self.workers)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The numbers of logical CPUs and of GPUs of a machine."""

    cpus: float
    gpus: float = 0

    @property
    def where(self) -> str:
        """Text that follows the totals in a message, about their distribution over machines.

        It is empty for a single machine.
        """
        return ""

    def room(self, demand: Demand) -> int:
        """Count the processes of this demand that fit on the machine at once."""
        count = _count_fitting(self.cpus, demand.cpus) if demand.cpus else MANY
        if demand.gpus >= 1:
            return min(count, _count_fitting(self.gpus, demand.gpus))
        # A fraction is a share of a single GPU; shares of two GPUs cannot be combined.
        return min(count, int(self.gpus) * _count_fitting(1, demand.gpus)) if demand.gpus else count


@dataclass(frozen=True, kw_only=True)
class Machines(Resources):
    """The machines of a cluster; `cpus` and `gpus` are the totals.

    A process must fit on a single machine, because it cannot use CPUs of several.
    """

    each: tuple[Resources, ...] = ()

    @classmethod
    def of(cls, each: Iterable[Resources]) -> Self:
        """Combine machines, with the sums of their resources as totals."""
        machines = tuple(each)
        return cls(
            cpus=sum(machine.cpus for machine in machines),
            gpus=sum(machine.gpus for machine in machines),
            each=machines,
        )

    @property
    def where(self) -> str:
        """Text that follows the totals in a message: each process must fit on a single machine."""
        return (
            f" on {len(self.each)} machines, and each process must fit on a single machine"
            if len(self.each) > 1
            else ""
        )

    def room(self, demand: Demand) -> int:
        """Count the processes of this demand that fit on all machines together at once."""
        return sum(machine.room(demand) for machine in self.each)


def _count_fitting(amount: float, part: float) -> int:
    """Count how many parts fit into an amount.

    The tolerance is needed for floating-point errors: without it, only nine trials with 0.1 GPU
    each would fit on one GPU, because 1 // 0.1 is 9.
    """
    return int(amount / part + 1e-6)


def local_gpus() -> int:
    """Count the NVIDIA GPUs that this process may use, without importing torch.

    They are counted in `CUDA_VISIBLE_DEVICES` if it is set, or else by `nvidia-smi`. The result is
    0 if neither exists.

    Raises:
        NotReady: nvidia-smi does not respond within 10 s.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    if shutil.which("nvidia-smi") is None:
        return 0
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NotReady(
            "nvidia-smi did not respond within 10 s. Repair the NVIDIA driver, or use --device cpu."
        ) from error
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def slots(resources: Resources, demand: Demand) -> int:
    """Count the trials that can run at the same time, at least one.

    Raises:
        NotReady: no trial fits, for example because there is no GPU.
    """
    if demand.gpus and not resources.gpus:
        raise NotReady(
            f"the search needs {demand.gpus:g} GPU per trial, but no GPU was found. "
            "Use --device cpu."
        )
    count = resources.room(demand) // demand.workers
    if count < 1:
        there = f"there are {resources_text(resources.cpus, resources.gpus)}" + resources.where
        raise NotReady(
            f"one trial needs {demand.in_words}, but {there}. "
            "Reduce --workers, --cpus-per-trial or --gpus-per-trial."
        )
    return count
