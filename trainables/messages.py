"""Messages of a training while it runs. Imports no torch, because the driver reads them too."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypedDict

from trainables.values import Json

DIVERGED_LOSS = 1e9
"""A mean training loss above this has diverged as surely as one that is not finite.

An untrained network has about log(classes). The limit does not apply to the validation loss, which
may exceed a million and recover, while the running statistics of batch normalisation are averages
of only a few steps.
"""
MIN_LOSS_SCALE = 1.0
"""A training in float16 has diverged when its loss scale falls below this.

The scale is halved with each step whose gradients overflow, and that step is skipped. This does
not mean that the training diverges; but below this scale the gradients themselves, without any
scaling, are too large for float16.
"""


@dataclass(frozen=True)
class WarmStart:
    """The trial from whose training another trial started, and the epoch that was taken over."""

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
        """The reason, in words, that the training cannot continue; empty if it can."""
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
    """The cost of using a classifier (`trainables.evaluation.cost`), stored as JSON.

    A journal of an earlier version may lack some of the keys.
    """

    parameters: int | None
    """The number of weights in use; None for a baseline."""
    multiply_adds: int | None
    """Of one image's forward pass; None for a baseline."""
    bytes: int
    """The size of the files that are needed to use it."""
    inference: dict[str, dict[str, float]]
    """`time_per_image` by batch size: `batch_1`, `batch_64`."""
    precision: str
    device: str
    threads: int
    unknown: str
    """The reason that nothing could be measured."""


@dataclass(frozen=True)
class Report:
    """A message of a trial, after each epoch and on two other occasions.

    These are that it has found the checkpoint from which it continues, and that it cannot save.
    Such reports have no metrics.
    """

    epoch: int
    metrics: dict[str, float] = field(default_factory=dict)
    outcome: str | None = None
    """None while the trial continues, else `completed`, `diverged` or `failed`."""
    reason: str = ""
    waiting: str = ""
    """The reason that the epoch's checkpoint cannot be written for now."""
    precision: str = ""
    """For a network's epoch: `fp32`, `bf16` or `fp16`, as it was trained."""
    folds: list[dict[str, float]] = field(default_factory=list)
    """With folds: the metrics of each; `metrics` are their means."""
    cost: Cost | None = None
    """The cost of using the classifier, with the first reported epoch, if it was requested."""
    restored: list[str] | None = None
    """For a trial that continues after `epoch`: the defects of newer checkpoints, a line each."""
    more: bool = field(default=False, compare=False)
    """True if the next report follows at once, without training in between."""
    begun: WarmStart | None = None
    """For a trial that continues after `epoch`: the warm start that trained its epochs until then,
    if the driver does not know of it yet.
    """

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Build the report that `to_json` encoded."""
        warm_start = values["begun"]
        return cls(
            **{**values, "begun": WarmStart(**warm_start) if warm_start is not None else None}
        )

    def to_json(self) -> Json:
        """Return the fields as plain values."""
        warm_start = dict(vars(self.begun)) if self.begun is not None else None
        return {**vars(self), "begun": warm_start}


def encode_reports(reports: Iterable[Report]) -> str:
    """Encode reports as JSON, to send them to another process."""
    return json.dumps([report.to_json() for report in reports])


def decode_reports(text: str) -> list[Report]:
    """Return the reports that `encode_reports` encoded."""
    return [Report.from_json(values) for values in json.loads(text)]
