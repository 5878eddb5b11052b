"""The processes that train one network together: one (`World`) or several (`Distributed`).

The training loop uses both through the same interface.
"""

from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

Value = TypeVar("Value")


class World:
    """A single process; the base class of `Distributed`."""

    rank = 0
    size = 1
    device = "cpu"
    """The device on which tensors must be for `sum`."""

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the network that a training step calls."""
        return network

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        return values

    def share_buffers(self, network: nn.Module) -> None:
        """Copy the first process's buffers to all; a single process has nothing to do."""

    def from_first(self, value: Value) -> Value:
        """Return the first process's value in every process; other values are ignored."""
        return value

    def slice(self, rows: Tensor) -> Tensor:
        """Return this process's share of a batch's rows; shares differ by at most one row."""
        return rows.tensor_split(self.size)[self.rank]

    def weigh(self, loss: Tensor, images: int, whole: int) -> Tensor:
        """Weight the mean loss over this process's share of a batch by the size of the share.

        Gradients are averaged over the processes with equal weights. With the factor images * size
        / whole for a process that has `images` of the `whole` batch, this average is the gradient
        of the mean over the batch.
        """
        # Without a multiplication by 1, a single process trains exactly as without this method.
        is_even = self.size == 1 or images * self.size == whole
        return loss if is_even else loss * (images * self.size / whole)


class Distributed(World):
    """One of several processes in a torch process group, which must be initialised already."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()

    def wrap(self, network: nn.Module) -> nn.Module:
        """Wrap the network so that each backward pass averages gradients over all processes."""
        return DistributedDataParallel(network)

    def sum(self, values: Tensor) -> Tensor:
        """Sum the values over all processes, in place (all-reduce), and return them."""
        distributed.all_reduce(values)
        return values

    def share_buffers(self, network: nn.Module) -> None:
        """Copy the first process's buffers, such as running statistics, to all others."""
        with torch.no_grad():
            for buffer in network.buffers():
                distributed.broadcast(buffer, src=0)

    def from_first(self, value: Value) -> Value:
        """Return the first process's value in every process.

        Tensors in it must be on the CPU.
        """
        values = [value]
        distributed.broadcast_object_list(values, src=0, device=torch.device(self.device))
        return values[0]
