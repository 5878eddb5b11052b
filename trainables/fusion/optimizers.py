"""torch's Adam, AdamW and SGD for K fused networks.

Each member has its own learning rate, weight decay, momentum and step count. Weights, gradients and
the optimizer's state are matrices (members, weights per member), so that a step takes about a dozen
operations for any number of layers. Settings that differ between members are columns (members, 1),
which broadcast over a member's weights. The formulas are those in the documentation of torch.optim;
a step agrees with torch's up to rounding.

Betas and epsilon are taken from the first member, because the config cannot change them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, optim

Step = Callable[[Tensor, Tensor], None]
"""A function that takes an optimizer step: it changes the weights in place.

Its arguments, weights and gradients, are (members, weights per member). It may overwrite the
gradients.
"""
WeightState = dict[str, Tensor]
"""The optimizer's values for each weight, by torch's names, such as `exp_avg`.

Each is (members, weights per member). Steps change them in place.
"""


def column(values: Sequence[float], like: Tensor) -> Tensor:
    """Build a column of one value for each member, (members, 1), with `like`'s device and type."""
    return (
        torch.tensor(values, dtype=torch.float64)
        .to(device=like.device, dtype=like.dtype)
        .unsqueeze(1)
    )


def settings(optimizers: Sequence[optim.Optimizer], name: str) -> list[Any]:
    """Return a setting of each member's optimizer, which must have a single parameter group."""
    return [optimizer.param_groups[0][name] for optimizer in optimizers]


class FusedAdam:
    """Adam, or AdamW if `decoupled`.

    Adam adds the weight decay to the gradient (L2 regularisation); AdamW shrinks the weights
    separately from the gradient step (Loshchilov and Hutter 2019).
    """

    def __init__(
        self,
        optimizers: Sequence[optim.Optimizer],
        state: WeightState,
        earlier_steps: Sequence[int],
        steps: int,
        *,
        decoupled: bool,
    ) -> None:
        """Prepare the steps of one epoch.

        Args:
            optimizers: the members' optimizers.
            state: the running means of all members, changed in place by each step.
            earlier_steps: the number of steps that each member has taken before this epoch.
            steps: the number of steps in this epoch.
            decoupled: True for AdamW.
        """
        self.mean, self.square = state["exp_avg"], state["exp_avg_sq"]
        (self.beta1, self.beta2), self.epsilon = (
            settings(optimizers, "betas")[0],
            settings(optimizers, "eps")[0],
        )
        self.rates, self.decays = settings(optimizers, "lr"), settings(optimizers, "weight_decay")
        self.decoupled = decoupled
        self.corrections = iter(self._corrections(earlier_steps, steps))
        self.decay = column(self.decays, self.mean)
        self.shrink = column(
            [1 - rate * decay for rate, decay in zip(self.rates, self.decays, strict=True)],
            self.mean,
        )

    @torch.no_grad()
    def __call__(self, weights: Tensor, gradients: Tensor) -> None:
        """Take one step of all members."""
        if any(self.decays) and self.decoupled:
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
        counts = torch.arange(1, steps + 1, dtype=torch.float64).unsqueeze(1) + torch.tensor(
            earlier_steps, dtype=torch.float64
        )
        rates = torch.tensor(self.rates, dtype=torch.float64) / (1 - self.beta1**counts)
        spreads = (1 - self.beta2**counts).rsqrt()
        return (
            torch.stack([rates, spreads], dim=1)
            .unsqueeze(-1)
            .to(device=self.mean.device, dtype=self.mean.dtype)
        )


class FusedSGD:
    """SGD with momentum, but without dampening or Nesterov momentum, as `OPTIMIZERS` builds it."""

    def __init__(self, optimizers: Sequence[optim.Optimizer], state: WeightState) -> None:
        self.buffer = state["momentum_buffer"]
        self.decays, self.momenta = (
            settings(optimizers, "weight_decay"),
            settings(optimizers, "momentum"),
        )
        self.rate, self.decay, self.momentum = (
            column(values, self.buffer)
            for values in (settings(optimizers, "lr"), self.decays, self.momenta)
        )

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


STATE_NAMES: Mapping[str, tuple[str, ...]] = {
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
    "sgd": ("momentum_buffer",),
}
"""The values that torch's optimizer stores for each weight, by the optimizer's name in the config.

They have the shape of the weights.
"""

STEP_FACTORIES: Mapping[
    str, Callable[[Sequence[optim.Optimizer], WeightState, Sequence[int], int], Step]
] = {
    "adam": lambda optimizers, state, earlier_steps, steps: FusedAdam(
        optimizers, state, earlier_steps, steps, decoupled=False
    ),
    "adamw": lambda optimizers, state, earlier_steps, steps: FusedAdam(
        optimizers, state, earlier_steps, steps, decoupled=True
    ),
    "sgd": lambda optimizers, state, earlier_steps, steps: FusedSGD(optimizers, state),
}


def steps_taken(optimizer: optim.Optimizer) -> int:
    """Return the number of steps that an optimizer has counted; always 0 for SGD."""
    return next((int(state["step"]) for state in optimizer.state.values() if "step" in state), 0)


def hand_back(
    optimizer: optim.Optimizer, values: Mapping[str, Sequence[Tensor]], steps: int
) -> None:
    """Set a member's optimizer to the state that its own steps would have produced.

    Args:
        optimizer: the member's optimizer.
        values: the new values for each weight, by name (`STATE_NAMES`).
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
