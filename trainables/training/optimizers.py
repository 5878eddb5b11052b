"""Torch's optimizers and learning-rate schedules, by the names of `OptimizerConfig`."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn, optim
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LRScheduler,
    ReduceLROnPlateau,
    StepLR,
)

from trainables.config import OptimizerConfig

SGD_MOMENTUM = 0.9
COMPILER_AWARE = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def lean(kind: type[optim.Optimizer]) -> Callable[..., optim.Optimizer]:
    """Return a subclass of the optimizer whose methods lack the wrappers for torch's compiler.

    The wrappers disable the compiler, but the first call of a wrapper imports it, which takes a
    second in each process. Optimizers are not compiled here.
    """
    methods: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in COMPILER_AWARE}
    methods["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), methods)


ADAM, ADAMW, SGD = lean(optim.Adam), lean(optim.AdamW), lean(optim.SGD)

Groups = list[dict[str, Any]]
"""Parameter groups as torch's optimizers take them, each with its own settings."""

OPTIMIZERS: dict[str, Callable[[Groups, OptimizerConfig], optim.Optimizer]] = {
    "adam": lambda weights, config: ADAM(weights, fused=True, **shared_settings(config)),
    "adamw": lambda weights, config: ADAMW(weights, fused=True, **shared_settings(config)),
    "sgd": lambda weights, config: SGD(
        weights,
        fused=True,
        momentum=SGD_MOMENTUM if config.momentum is None else config.momentum,
        **shared_settings(config),
    ),
}

SCHEDULES: dict[str, Callable[[optim.Optimizer, OptimizerConfig, int], LRScheduler]] = {
    "constant": lambda optimizer, config, epochs: LambdaLR(optimizer, constant),
    "step": lambda optimizer, config, epochs: StepLR(
        optimizer, config.step_epochs, gamma=config.decay
    ),
    "plateau": lambda optimizer, config, epochs: ReduceLROnPlateau(
        optimizer, factor=config.decay, patience=config.patience
    ),
    "cosine": lambda optimizer, config, epochs: CosineAnnealingLR(optimizer, T_max=epochs),
}


def shared_settings(config: OptimizerConfig) -> dict[str, float]:
    """Return the settings that all optimizers have."""
    return {"lr": config.lr, "weight_decay": config.weight_decay}


def constant(epoch: int) -> float:
    """Return 1, the factor of a constant learning rate."""
    return 1.0


def build(
    network: nn.Module, config: OptimizerConfig, epochs: int
) -> tuple[optim.Optimizer, LRScheduler]:
    """Build an optimizer for all weights that are not frozen, and its schedule over `epochs`."""
    optimizer = OPTIMIZERS[config.name](groups(network, config), config)
    return optimizer, SCHEDULES[config.schedule](optimizer, config, epochs)


def groups(network: nn.Module, config: OptimizerConfig) -> Groups:
    """Return the weights that are not frozen, as parameter groups.

    With a separate learning rate for the backbone there are two groups. The head's is the first,
    because the learning rate of the first group is reported.
    """
    learning = [weights for weights in network.parameters() if weights.requires_grad]
    if config.backbone_lr is None:
        return [{"params": learning}]
    head = {id(weights) for weights in network.head_parameters()}  # type: ignore[operator]
    backbone = {
        "params": [weights for weights in learning if id(weights) not in head],
        "lr": config.backbone_lr,
    }
    return [{"params": [weights for weights in learning if id(weights) in head]}, backbone]


def fill_momentum(optimizer: optim.Optimizer) -> None:
    """Initialise SGD's momentum buffers to zero before the first step, which may be skipped.

    Otherwise torch's fused step (2.13) would leave uninitialised memory in them.
    """
    for group in optimizer.param_groups:
        for weights in group["params"] if group.get("momentum") else []:
            state = optimizer.state[weights]
            if state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(weights)


def lay_out(optimizer: optim.Optimizer) -> None:
    """Prepare a restored optimizer for fused steps, even if its earlier steps were not fused.

    A fused step reads a weight and its state in the order of memory, so that both must have the
    same strides. The count of steps must be on the weight's device.
    """
    for group in optimizer.param_groups:
        group |= {"fused": True, "foreach": None}
    for weights, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                state[name] = (
                    torch.empty_like(weights).copy_(value)
                    if value.shape == weights.shape
                    else value.to(weights.device)
                )


def advance(schedule: LRScheduler, val_loss: float) -> None:
    """Advance the schedule by one epoch; only `plateau` uses the validation loss."""
    arguments: tuple[Any, ...] = (val_loss,) if isinstance(schedule, ReduceLROnPlateau) else ()
    schedule.step(*arguments)
