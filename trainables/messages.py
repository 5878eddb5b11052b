"""What a training says while it runs. Free of torch: the driver's side reads it too."""

import math
from dataclasses import dataclass, field
from typing import Any

DIVERGED_LOSS = 1e9
"""A mean training loss beyond this has blown up as surely as one that is not finite (an untrained
net has about log(classes)). The validation loss may pass a million and come back, when the running
statistics of batch normalisation have seen only a few steps.
"""
MIN_LOSS_SCALE = 1.0
"""In float16 the scale of the loss is halved with each step whose gradients overflow. Such a step
is left out, and is none of a training that diverges, unless it comes to this: then the gradients
themselves, not scaled up, are too large for float16.
"""


@dataclass(frozen=True)
class EpochMetrics:
    """One finished epoch (1-based): `train/loss`, `val/loss`, `val/accuracy`, `lr`, `time/epoch_s`.
    In float16 also `train/loss_scale`, as it was at the end, and `train/skipped_steps`, those that
    were left out because their gradients overflowed.
    """

    epoch: int
    values: dict[str, float]
    folds: list[dict[str, float]] = field(default_factory=list)
    """The same of each fold's network, where `values` are their means."""

    @property
    def diverged(self) -> str:
        """Why the training cannot go on, in words; empty when it can."""
        for number, values in enumerate(self.folds or [self.values], 1):
            for name, value in values.items():
                if name == "train/loss_scale" and value < MIN_LOSS_SCALE:
                    where = f" in fold {number}" if self.folds else ""
                    return f"gradients overflow float16 at epoch {self.epoch}{where}, with the loss scaled by {value:.3g}"
                if not math.isfinite(value) or (name == "train/loss" and value > DIVERGED_LOSS):
                    return f"{name} is {value:.3g} at epoch {self.epoch}" + (
                        f" in fold {number}" if self.folds else ""
                    )
        return ""


@dataclass(frozen=True)
class Report:
    """What a trial says after an epoch, and on two occasions between: when it has found the
    checkpoint from which it goes on, and when it cannot save. Those have no metrics.
    """

    epoch: int
    metrics: dict[str, float] = field(default_factory=dict)
    outcome: str | None = None
    """None while the trial goes on, else `completed`, `diverged` or `failed`."""
    reason: str = ""
    waiting: str = ""
    """Why the epoch's checkpoint cannot be written for now."""
    precision: str = ""
    """Of a network's epoch: `fp32`, `bf16` or `fp16`, as it was trained."""
    folds: list[dict[str, float]] = field(default_factory=list)
    """With folds: the metrics of each, whose means are `metrics`."""
    cost: dict[str, Any] | None = None
    """With the first epoch that is told, where it was asked for: what the classifier costs to use,
    as `trainables.evaluation.cost` measures it, or why that is `unknown`.
    """
    restored: list[str] | None = None
    """Of a trial that goes on after `epoch`: what is wrong with newer checkpoints, a line each."""
    more: bool = field(default=False, compare=False)
    """Whether the next report comes at once: nothing is trained before it."""
    begun: dict[str, Any] | None = None
    """Of such a trial: the `search` and `trial` that have trained its epochs until `epoch`, which
    were not known of it yet.
    """

    def to_dict(self) -> dict[str, Any]:
        """Plain values, to cross a process border."""
        return dict(vars(self))
