"""The processes that train one network together: one (`World`) or several (`Distributed`).

The loop treats both alike.
"""

from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

Value = TypeVar("Value")


class World:
    """A single process, and the base of `Distributed`."""

    rank = 0
    size = 1
    device = "cpu"
    """The device on which a tensor must be for `sum`."""

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the network as the training step calls it."""
        return network

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        return values

    def share_buffers(self, network: nn.Module) -> None:
        """Give every process the same running statistics."""

    def from_first(self, value: Value) -> Value:
        """Return the first process's value in every process; the others' are ignored."""
        return value

    def slice(self, rows: Tensor) -> Tensor:
        """Return this process's share of a batch; the shares differ by one row at most."""
        return rows.tensor_split(self.size)[self.rank]

    def weigh(self, loss: Tensor, images: int, whole: int) -> Tensor:
        """Weigh the mean loss over this process's share of a batch by the size of the share.

        Gradients are averaged over the processes, each counting alike. So a process that has
        `images` of the `whole` batch counts images * size / whole times, and the average is the
        gradient of the mean over the batch.
        """
        # Not multiplied by 1: equal shares, and one process, train exactly as without it.
        is_even = self.size == 1 or images * self.size == whole
        return loss if is_even else loss * (images * self.size / whole)


class Distributed(World):
    """One of several processes, inside a torch process group that has been set up before."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return a network that averages its gradients over all processes in each backward pass."""
        return DistributedDataParallel(network)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes (all-reduce); every process gets it."""
        distributed.all_reduce(values)
        return values

    def share_buffers(self, network: nn.Module) -> None:
        """Take the first process's buffers (batch normalisation keeps one set in each process)."""
        with torch.no_grad():
            for buffer in network.buffers():
                distributed.broadcast(buffer, src=0)

    def from_first(self, value: Value) -> Value:
        """Return the first process's value in every process.

        Its tensors must be in the CPU's memory, which all processes have.
        """
        values = [value]
        distributed.broadcast_object_list(values, src=0, device=torch.device(self.device))
        return values[0]
