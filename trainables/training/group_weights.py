"""Group DRO: the weights of groups in the loss, which grow with the losses of the groups.

See Sagawa et al. 2020, "Distributionally Robust Neural Networks for Group Shifts", algorithm 1.
There, the weights are changed before they are used; here they are those after the step before,
because the losses of a batch are known only after its forward pass.
"""

import torch
from torch import Tensor

from trainables.training.world import World


class GroupWeights:
    """The weight of each group in the training loss."""

    def __init__(self, groups: Tensor, step_size: float, world: World) -> None:
        """Start with equal weights.

        Args:
            groups: the number of the group of each training image, int64 (images,), on the device;
                every number from 0 to the largest occurs.
            step_size: the factor of a group's loss in the exponent by which its weight grows.
            world: the processes that share each batch.
        """
        self.groups, self.step_size, self.world = groups, step_size, world
        count = int(groups.max()) + 1
        self.shares = torch.full((count,), 1 / count, device=groups.device)
        """The weight of each group, (groups,); their sum is 1."""

    def weigh(self, rows: Tensor) -> Tensor:
        """Return the weight of each image of a batch, (rows,).

        The mean over the batch of the images' losses, each times its weight, is the sum over the
        groups of the group's weight times the mean loss of its images in the batch.

        Args:
            rows: the rows of this process's share of the batch.
        """
        groups = self.groups[rows]
        counts = self.world.sum(torch.bincount(groups, minlength=len(self.shares)).float())
        return (self.shares / counts.clamp(min=1))[groups] * counts.sum()

    def update(self, rows: Tensor, losses: Tensor) -> None:
        """Let the weights grow with the mean losses of the groups in a batch.

        Groups without images in the batch count as those with a loss of 0, as in the algorithm.

        Args:
            rows: the rows of this process's share of the batch.
            losses: the loss of each of its images, (rows,), without a gradient.
        """
        groups, count = self.groups[rows], len(self.shares)
        sums = torch.zeros(2, count, device=losses.device)
        sums[0].index_add_(0, groups, losses.float())
        sums[1] += torch.bincount(groups, minlength=count)
        totals, counts = self.world.sum(sums)
        grown = self.shares * torch.exp(self.step_size * totals / counts.clamp(min=1))
        self.shares = grown / grown.sum()

    def state(self) -> list[float]:
        """Return the weights of the groups."""
        return list(map(float, self.shares.tolist()))

    def load_state(self, state: list[float]) -> None:
        """Restore weights that `state` returned."""
        self.shares = torch.tensor(state, device=self.shares.device)
