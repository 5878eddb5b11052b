"""torch's Adam, AdamW and SGD for K networks at once.

Each member has its own learning rate, weight decay, momentum and step count. Weights, gradients and
what the optimizer keeps are matrices (members, weights per member), so a step is a dozen operations
whatever the network's depth, and what differs between members is a column. Formulas: torch.optim's
documentation of the three.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, optim

Step = Callable[[Tensor, Tensor], None]
"""Changes the weights, given their gradients, which may be overwritten.

Both are (members, weights per member).
"""
Kept = dict[str, Tensor]
"""The state that an optimizer keeps of each weight, by torch's own names.

Each is (members, weights per member).
"""


def column(values: Sequence[float], like: Tensor) -> Tensor:
    """Return one value for each member, (members, 1), with the device and type of `like`."""
    return (
        torch.tensor(values, dtype=torch.float64)
        .to(device=like.device, dtype=like.dtype)
        .unsqueeze(1)
    )


def settings(optimizers: Sequence[optim.Optimizer], name: str) -> list[Any]:
    """Return one setting of each member's optimizer."""
    return [optimizer.param_groups[0][name] for optimizer in optimizers]


class FusedAdam:
    """Adam, or AdamW if `decoupled`.

    In Adam weight decay is a part of the gradient (L2), in AdamW it is apart from it.
    """

    def __init__(
        self,
        optimizers: Sequence[optim.Optimizer],
        kept: Kept,
        done: Sequence[int],
        steps: int,
        *,
        decoupled: bool,
    ) -> None:
        """Prepare the steps of one epoch.

        Args:
            optimizers: the members' own.
            kept: what they keep of each weight.
            done: the number of steps that each member has taken before.
            steps: the number of steps to come.
            decoupled: True for AdamW.
        """
        self.mean, self.square = kept["exp_avg"], kept["exp_avg_sq"]
        (self.beta1, self.beta2), self.epsilon = (
            settings(optimizers, "betas")[0],
            settings(optimizers, "eps")[0],
        )
        self.rates, self.decays = settings(optimizers, "lr"), settings(optimizers, "weight_decay")
        self.decoupled = decoupled
        self.corrections = iter(self._corrections(done, steps))
        self.decay = column(self.decays, self.mean)
        self.shrink = column(
            [1 - rate * decay for rate, decay in zip(self.rates, self.decays, strict=True)],
            self.mean,
        )

    @torch.no_grad()
    def __call__(self, weights: Tensor, gradients: Tensor) -> None:
        """Take one step."""
        if any(self.decays) and self.decoupled:
            weights.mul_(self.shrink)
        elif any(self.decays):
            gradients.addcmul_(weights, self.decay)
        self.mean.lerp_(gradients, 1 - self.beta1)
        self.square.mul_(self.beta2).addcmul_(gradients, gradients, value=1 - self.beta2)
        rate, spread = next(self.corrections)
        denominator = self.square.sqrt().mul_(spread).add_(self.epsilon)
        weights.sub_(torch.div(self.mean, denominator, out=denominator).mul_(rate))

    def _corrections(self, done: Sequence[int], steps: int) -> Tensor:
        """Return the corrections for bias of each step to come, (steps, 2, members, 1).

        They are the learning rate over the mean's bias, and one over the root of the square's, by
        the member's own count of steps. All are computed at once, so that no step waits for numbers
        to reach the device.
        """
        counts = torch.arange(1, steps + 1, dtype=torch.float64).unsqueeze(1) + torch.tensor(
            done, dtype=torch.float64
        )
        rates = torch.tensor(self.rates, dtype=torch.float64) / (1 - self.beta1**counts)
        spreads = (1 - self.beta2**counts).rsqrt()
        return (
            torch.stack([rates, spreads], dim=1)
            .unsqueeze(-1)
            .to(device=self.mean.device, dtype=self.mean.dtype)
        )


class FusedSGD:
    """SGD with momentum."""

    def __init__(self, optimizers: Sequence[optim.Optimizer], kept: Kept) -> None:
        self.buffer = kept["momentum_buffer"]
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
        """Take one step.

        The buffer begins at zero, so the first step takes the gradient as it is, as torch's does.
        """
        if any(self.decays):
            gradients.addcmul_(weights, self.decay)
        if any(self.momenta):
            gradients = self.buffer.mul_(self.momentum).add_(gradients)
        weights.addcmul_(gradients, self.rate, value=-1)


KEPT: Mapping[str, tuple[str, ...]] = {
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
    "sgd": ("momentum_buffer",),
}
"""The state that torch's optimizer keeps of each weight, in the weight's own shape.

The keys are the optimizers' names in the config.
"""

FUSED: Mapping[str, Callable[[Sequence[optim.Optimizer], Kept, Sequence[int], int], Step]] = {
    "adam": lambda optimizers, kept, done, steps: FusedAdam(
        optimizers, kept, done, steps, decoupled=False
    ),
    "adamw": lambda optimizers, kept, done, steps: FusedAdam(
        optimizers, kept, done, steps, decoupled=True
    ),
    "sgd": lambda optimizers, kept, done, steps: FusedSGD(optimizers, kept),
}


def steps_taken(optimizer: optim.Optimizer) -> int:
    """Return the number of steps that an optimizer has counted; 0 if it keeps no count."""
    return next((int(kept["step"]) for kept in optimizer.state.values() if "step" in kept), 0)


def hand_back(
    optimizer: optim.Optimizer, values: Mapping[str, Sequence[Tensor]], steps: int
) -> None:
    """Leave a member's optimizer as its own steps would have left it.

    Stepping without gradients changes nothing, and tells the schedule, which would warn otherwise,
    that there were steps.

    Args:
        optimizer: the member's own.
        values: by name, what it keeps of each weight.
        steps: all steps that it has taken.
    """
    optimizer.zero_grad()
    optimizer.step()
    (group,) = optimizer.param_groups
    if group.get("momentum") == 0:  # torch keeps nothing then
        return
    for row, weights in enumerate(group["params"]):
        kept = optimizer.state[weights]
        if "betas" in group:
            kept["step"] = torch.full((), float(steps), dtype=torch.float32, device=weights.device)
        for name, each in values.items():
            kept[name] = torch.empty_like(weights).copy_(each[row])
