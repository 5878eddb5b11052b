"""Messages of a training while it runs. Free of torch: the driver's side reads them too."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypedDict

from trainables.values import Json

DIVERGED_LOSS = 1e9
"""A mean training loss above this has diverged as surely as one that is not finite.

An untrained network has about log(classes). The validation loss is not held to this limit: it may
pass a million and come back, when the running statistics of batch normalisation have seen only a
few steps.
"""
MIN_LOSS_SCALE = 1.0
"""A training in float16 has diverged when its loss scale falls below this.

The scale is halved with each step whose gradients overflow, and that step is left out. This alone
does not mean that the training diverges; but below this scale the gradients themselves, not scaled
up, are too large for float16.
"""


@dataclass(frozen=True)
class WarmStart:
    """The trial whose training another trial began with, and up to which epoch."""

    search: str
    trial: str
    epoch: int


@dataclass(frozen=True)
class EpochMetrics:
    """One finished epoch (counted from 1) and its metrics.

    These are `train/loss`, those of the task's meter (such as `val/loss`), `lr` and
    `time/epoch_s`. In float16 also `train/loss_scale`, as it was at the end, and
    `train/skipped_steps`, the steps left out because their gradients overflowed.
    """

    epoch: int
    values: dict[str, float]
    folds: list[dict[str, float]] = field(default_factory=list)
    """With folds: the same metrics of each fold's network; `values` are their means."""

    @property
    def diverged(self) -> str:
        """The reason, in words, that the training cannot go on; empty if it can."""
        for number, values in enumerate(self.folds or [self.values], 1):
            for name, value in values.items():
                if name == "train/loss_scale" and value < MIN_LOSS_SCALE:
                    where = f" in fold {number}" if self.folds else ""
                    return (
                        f"gradients overflow float16 at epoch {self.epoch}{where}, "
                        f"with the loss scaled by {value:.3g}"
                    )
                if not math.isfinite(value) or (name == "train/loss" and value > DIVERGED_LOSS):
                    return f"{name} is {value:.3g} at epoch {self.epoch}" + (
                        f" in fold {number}" if self.folds else ""
                    )
        return ""


class Cost(TypedDict, total=False):
    """The cost of using a classifier, as `trainables.evaluation.cost` measures it; JSON holds it.

    A journal of an earlier version may lack some of it.
    """

    parameters: int | None
    """Weights in use; None for what is no network."""
    multiply_adds: int | None
    """Of one image's forward pass; None for what is no network."""
    bytes: int
    """Of the files that are needed to use it."""
    inference: dict[str, dict[str, float]]
    """`time_per_image` by batch size: `batch_1`, `batch_64`."""
    precision: str
    device: str
    threads: int
    unknown: str
    """The reason that nothing of this could be measured."""


@dataclass(frozen=True)
class Report:
    """A message of a trial: after each epoch, and on two occasions between.

    The two are that it has found the checkpoint from which it goes on, and that it cannot save.
    Those reports have no metrics.
    """

    epoch: int
    metrics: dict[str, float] = field(default_factory=dict)
    outcome: str | None = None
    """None while the trial goes on, else `completed`, `diverged` or `failed`."""
    reason: str = ""
    waiting: str = ""
    """The reason that the epoch's checkpoint cannot be written for now."""
    precision: str = ""
    """For a network's epoch: `fp32`, `bf16` or `fp16`, as it was trained."""
    folds: list[dict[str, float]] = field(default_factory=list)
    """With folds: the metrics of each; `metrics` are their means."""
    cost: Cost | None = None
    """The cost of using the classifier, with the first epoch that is reported, where asked for."""
    restored: list[str] | None = None
    """For a trial that goes on after `epoch`: what is wrong with newer checkpoints, a line each."""
    more: bool = field(default=False, compare=False)
    """True if the next report comes at once: nothing is trained before it."""
    begun: WarmStart | None = None
    """For a trial that goes on after `epoch`: the warm start that was not known of it yet, which
    has trained its epochs until `epoch`.
    """

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the report that these plain values describe."""
        begun = values["begun"]
        return cls(**{**values, "begun": WarmStart(**begun) if begun is not None else None})

    def to_json(self) -> Json:
        """Return plain values."""
        begun = dict(vars(self.begun)) if self.begun is not None else None
        return {**vars(self), "begun": begun}


def told(reports: Iterable[Report]) -> str:
    """Return reports as they cross to another process: JSON."""
    return json.dumps([report.to_json() for report in reports])


def heard(text: str) -> list[Report]:
    """Return the reports that another process has told (`told`)."""
    return [Report.from_json(values) for values in json.loads(text)]
