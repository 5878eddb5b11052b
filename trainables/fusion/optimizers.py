"""torch's Adam, AdamW and SGD for K fused networks.

Each member has its own learning rate, weight decay, momentum and step count. Weights, gradients and
the optimizer's state are matrices (members, weights per member), so that a step takes about a dozen
operations for any number of layers. Settings that differ between members are columns (members, 1),
which broadcast over a member's weights. The formulas are those in the documentation of torch.optim;
a step agrees with torch's up to rounding.

Betas and epsilon are taken from the first member, because the config cannot change them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, optim

WeightState = dict[str, Tensor]
"""The optimizer's values for each weight, by torch's names, such as `exp_avg`.

Each is (members, weights per member). Steps change them in place.
"""


def column(values: Sequence[float], like: Tensor) -> Tensor:
    """Build a column of one value for each member, (members, 1), with `like`'s device and type."""
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1).to(like)


def settings(optimizers: Sequence[optim.Optimizer], name: str) -> list[Any]:
    """Return a setting of each member's optimizer, which must have a single parameter group."""
    return [optimizer.param_groups[0][name] for optimizer in optimizers]


class FusedAdam:
    """Adam, which adds the weight decay to the gradient (L2 regularisation), or AdamW.

    AdamW shrinks the weights separately from the gradient step (Loshchilov and Hutter 2019).
    """

    state_names = ("exp_avg", "exp_avg_sq")
    """The values that torch's optimizer stores for each weight, in the shape of the weight."""

    def __init__(
        self,
        optimizers: Sequence[optim.Optimizer],
        state: WeightState,
        earlier_steps: Sequence[int],
        steps: int,
    ) -> None:
        """Prepare the steps of one epoch.

        Args:
            optimizers: the members' optimizers.
            state: the running means of all members, changed in place by each step.
            earlier_steps: the number of steps that each member has taken before this epoch.
            steps: the number of steps in this epoch.
        """
        self.mean, self.square = state["exp_avg"], state["exp_avg_sq"]
        self.beta1, self.beta2 = settings(optimizers, "betas")[0]
        self.epsilon = settings(optimizers, "eps")[0]
        self.rates, self.decays = settings(optimizers, "lr"), settings(optimizers, "weight_decay")
        self.is_decoupled = isinstance(optimizers[0], optim.AdamW)
        self.corrections = iter(self._corrections(earlier_steps, steps))
        self.decay = column(self.decays, self.mean)
        shrink = [1 - rate * decay for rate, decay in zip(self.rates, self.decays, strict=True)]
        self.shrink = column(shrink, self.mean)

    @torch.no_grad()
    def __call__(self, weights: Tensor, gradients: Tensor) -> None:
        """Take one step of all members: change the weights in place.

        Args:
            weights: (members, weights per member).
            gradients: in the same shape; they may be overwritten.
        """
        if any(self.decays) and self.is_decoupled:
            weights.mul_(self.shrink)
        elif any(self.decays):
            gradients.addcmul_(weights, self.decay)
        self.mean.lerp_(gradients, 1 - self.beta1)
        self.square.mul_(self.beta2).addcmul_(gradients, gradients, value=1 - self.beta2)
        # weights -= rate * mean / (sqrt(square) * spread + epsilon)
        rate, spread = next(self.corrections)
        denominator = self.square.sqrt().mul_(spread).add_(self.epsilon)
        weights.sub_(torch.div(self.mean, denominator, out=denominator).mul_(rate))

    def _corrections(self, earlier_steps: Sequence[int], steps: int) -> Tensor:
        """Compute the bias corrections of all steps of the epoch, (steps, 2, members, 1).

        For step t of a member they are lr / (1 - beta1^t), which multiplies the mean of gradients,
        and 1 / sqrt(1 - beta2^t), which multiplies the root of the mean square. They are computed
        in float64, like torch's, and copied to the device once for the epoch, so that no step waits
        for a transfer.
        """
        earlier = torch.tensor(earlier_steps, dtype=torch.float64)
        counts = torch.arange(1, steps + 1, dtype=torch.float64).unsqueeze(1) + earlier
        rates = torch.tensor(self.rates, dtype=torch.float64) / (1 - self.beta1**counts)
        spreads = (1 - self.beta2**counts).rsqrt()
        return torch.stack([rates, spreads], dim=1).unsqueeze(-1).to(self.mean)


class FusedSGD:
    """SGD with momentum, without dampening or Nesterov momentum; used like `FusedAdam`."""

    state_names = ("momentum_buffer",)

    def __init__(
        self,
        optimizers: Sequence[optim.Optimizer],
        state: WeightState,
        earlier_steps: Sequence[int],
        steps: int,
    ) -> None:
        self.buffer = state["momentum_buffer"]
        self.decays = settings(optimizers, "weight_decay")
        self.momenta = settings(optimizers, "momentum")
        self.rate = column(settings(optimizers, "lr"), self.buffer)
        self.decay = column(self.decays, self.buffer)
        self.momentum = column(self.momenta, self.buffer)

    @torch.no_grad()
    def __call__(self, weights: Tensor, gradients: Tensor) -> None:
        """Take one step of all members.

        The momentum buffer starts at zero, so that the first step uses the gradient itself, as in
        torch.
        """
        if any(self.decays):
            gradients.addcmul_(weights, self.decay)
        if any(self.momenta):
            gradients = self.buffer.mul_(self.momentum).add_(gradients)
        weights.addcmul_(gradients, self.rate, value=-1)


FUSED_OPTIMIZERS: Mapping[str, type[FusedAdam] | type[FusedSGD]] = {
    "adam": FusedAdam,
    "adamw": FusedAdam,
    "sgd": FusedSGD,
}
"""The optimizers of all members together, by the names in the config."""


def steps_taken(optimizer: optim.Optimizer) -> int:
    """Return the number of steps that an optimizer has counted; always 0 for SGD."""
    return next((int(state["step"]) for state in optimizer.state.values() if "step" in state), 0)


def hand_back(
    optimizer: optim.Optimizer, values: Mapping[str, Sequence[Tensor]], steps: int
) -> None:
    """Set a member's optimizer to the state that its own steps would have produced.

    Args:
        optimizer: the member's optimizer.
        values: the new values for each weight, by name (`state_names`).
        steps: the total number of steps that the member has taken, in all epochs.
    """
    # A step without gradients changes no weights, but marks the optimizer as stepped. Otherwise the
    # schedule would warn that it is stepped before the optimizer.
    optimizer.zero_grad()
    optimizer.step()
    (group,) = optimizer.param_groups
    if group.get("momentum") == 0:  # torch stores no state without momentum
        return
    for row, weights in enumerate(group["params"]):
        state = optimizer.state[weights]
        if "betas" in group:
            state["step"] = torch.full((), float(steps), dtype=torch.float32, device=weights.device)
        for name, each in values.items():
            state[name] = torch.empty_like(weights).copy_(each[row])
