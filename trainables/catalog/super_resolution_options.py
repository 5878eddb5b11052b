"""The options of super-resolution; no torch is imported."""

from dataclasses import dataclass

from trainables.fields import Options, name_of

LOSS_NAMES = ("l1", "l2", "charbonnier")


@dataclass(frozen=True, kw_only=True)
class SuperResolutionOptions(Options):
    """The options of training for super-resolution."""

    loss: str = name_of("l1", "task.loss", LOSS_NAMES)
    """The loss to minimise: the mean absolute error, the mean squared error, or a smooth form of
    the absolute error (`trainables.tasks.super_resolution.task`).
    """
    turns: bool = True
    """True to turn crops by a random multiple of 90 degrees, and to mirror half of them."""
