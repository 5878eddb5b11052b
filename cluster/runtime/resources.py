"""The arithmetic of resources: the size of machines, and the number of trials that fit on them."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from cluster.errors import NotReady

MANY = 10**6
"""A number that stands for "no limit"."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """The resources of a trial: `workers` processes, each with this number of CPUs and GPUs."""

    cpus: float = 1
    gpus: float = 0
    workers: int = 1

    @property
    def in_words(self) -> str:
        """The demand of all processes together, such as `2 CPUs and 0.5 GPUs`."""
        return f"{self.cpus * self.workers:g} CPUs and {self.gpus * self.workers:g} GPUs"


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Logical CPUs and GPUs of a machine."""

    cpus: float
    gpus: float = 0

    @property
    def where(self) -> str:
        """Words for a message that say where the resources are."""
        return ""

    def room(self, demand: Demand) -> int:
        """Count the trial's processes that fit on the machine."""
        count = _count_fitting(self.cpus, demand.cpus) if demand.cpus else MANY
        if demand.gpus >= 1:
            return min(count, _count_fitting(self.gpus, demand.gpus))
        # A fraction is a share of one card; what two cards have left cannot be combined.
        return min(count, int(self.gpus) * _count_fitting(1, demand.gpus)) if demand.gpus else count


@dataclass(frozen=True, kw_only=True)
class Machines(Resources):
    """The machines of a cluster.

    A process needs room on a single machine: it cannot have half its CPUs on one and half on
    another.
    """

    each: tuple[Resources, ...] = ()

    @classmethod
    def of(cls, each: Iterable[Resources]) -> Self:
        """Combine machines, and sum up their resources."""
        machines = tuple(each)
        return cls(
            cpus=sum(machine.cpus for machine in machines),
            gpus=sum(machine.gpus for machine in machines),
            each=machines,
        )

    @property
    def where(self) -> str:
        """A hint for cases in which the sum has room for a process, but no single machine does."""
        return (
            f", on {len(self.each)} machines, and a process needs room on one"
            if len(self.each) > 1
            else ""
        )

    def room(self, demand: Demand) -> int:
        """Count the trial's processes that fit, machine by machine."""
        return sum(machine.room(demand) for machine in self.each)


def _count_fitting(amount: float, part: float) -> int:
    """Count how often a part fits into an amount.

    The tolerance makes ten tenths of a card fit on one, although 1 // 0.1 is 9.
    """
    return int(amount / part + 1e-6)


def local_gpus() -> int:
    """Count the NVIDIA GPUs that this process may use, without importing torch.

    Raises:
        NotReady: nvidia-smi does not answer.
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
            "nvidia-smi does not answer. Mend the driver, or use --device cpu."
        ) from error
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def slots(resources: Resources, demand: Demand) -> int:
    """Count the trials that can run at the same time.

    Raises:
        NotReady: not even one fits.
    """
    if demand.gpus and not resources.gpus:
        raise NotReady(
            f"the search asks for {demand.gpus:g} GPU per trial; none found. Use --device cpu."
        )
    count = resources.room(demand) // demand.workers
    if count < 1:
        there = f"there are {resources.cpus:g} CPUs and {resources.gpus:g} GPUs" + resources.where
        raise NotReady(
            f"one trial asks for {demand.in_words}; {there}. "
            "Use fewer --workers, --cpus-per-trial or --gpus-per-trial."
        )
    return count
