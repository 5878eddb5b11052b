"""Optimizers and learning-rate schedules by the names of `OptimizerConfig`, all torch's own."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn, optim
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, ReduceLROnPlateau, StepLR

from trainables.config import OptimizerConfig

SGD_MOMENTUM = 0.9

OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter], OptimizerConfig], optim.Optimizer]] = {
    "adam": lambda weights, config: optim.Adam(weights, lr=config.lr, weight_decay=config.weight_decay),
    "adamw": lambda weights, config: optim.AdamW(weights, lr=config.lr, weight_decay=config.weight_decay),
    "sgd": lambda weights, config: optim.SGD(
        weights, lr=config.lr, weight_decay=config.weight_decay, momentum=SGD_MOMENTUM if config.momentum is None else config.momentum
    ),
}

SCHEDULES: dict[str, Callable[[optim.Optimizer, OptimizerConfig, int], LRScheduler]] = {
    "constant": lambda optimizer, config, epochs: LambdaLR(optimizer, constant),
    "step": lambda optimizer, config, epochs: StepLR(optimizer, config.step_epochs, gamma=config.decay),
    "plateau": lambda optimizer, config, epochs: ReduceLROnPlateau(optimizer, factor=config.decay, patience=config.patience),
    "cosine": lambda optimizer, config, epochs: CosineAnnealingLR(optimizer, T_max=epochs),
}


def constant(epoch: int) -> float:
    """The factor of a learning rate that stays."""
    return 1.0


def build(network: nn.Module, config: OptimizerConfig, epochs: int) -> tuple[optim.Optimizer, LRScheduler]:
    """The optimizer over all weights of a network and its schedule for a training of `epochs`."""
    optimizer = OPTIMIZERS[config.name](network.parameters(), config)
    return optimizer, SCHEDULES[config.schedule](optimizer, config, epochs)


def advance(schedule: LRScheduler, val_loss: float) -> None:
    """One epoch on; only `plateau` looks at the validation loss."""
    arguments: tuple[Any, ...] = (val_loss,) if isinstance(schedule, ReduceLROnPlateau) else ()
    schedule.step(*arguments)
