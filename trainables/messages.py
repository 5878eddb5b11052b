"""The messages that a running trial sends to the driver.

This module does not import torch, because the driver imports it too.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypedDict

from trainables.values import Json

DIVERGED_LOSS = 1e9
"""A training has diverged if its mean training loss exceeds this, or is not finite.

For comparison, an untrained network has a loss of about log(classes). The limit does not apply to
the validation loss, which may exceed a million and recover, as long as the running statistics of
batch normalisation are averages over only a few steps.
"""
MIN_LOSS_SCALE = 1.0
"""A training in float16 has diverged if its loss scale falls below this.

Each step whose gradients overflow is skipped, and halves the scale. That alone does not mean that
the training has diverged. But below this scale, even unscaled gradients are too large for float16.
"""


@dataclass(frozen=True)
class WarmStart:
    """The trial whose checkpoint another trial continued, and the number of reused epochs."""

    search: str
    trial: str
    epoch: int


@dataclass(frozen=True)
class EpochMetrics:
    """The metrics of a finished epoch; epochs are numbered from 1.

    `values` has `train/loss`, the values of the task's meter (such as `val/loss`), `lr` and
    `time/epoch_s`. In float16 it also has `train/loss_scale`, at the end of the epoch, and
    `train/skipped_steps`, the number of steps skipped because their gradients overflowed.
    """

    epoch: int
    values: dict[str, float]
    folds: list[dict[str, float]] = field(default_factory=list)
    """With folds, the metrics of each fold's network, whose means are in `values`; else empty."""

    @property
    def diverged(self) -> str:
        """The reason, in words, why the training cannot continue; empty if it can."""
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
    """The cost of predicting with a classifier (`trainables.evaluation.cost`), stored as JSON.

    Costs in the journals of earlier versions may lack some of the keys.
    """

    parameters: int | None
    """The number of weights that predictions use; None for a baseline."""
    multiply_adds: int | None
    """The number of multiply-adds in the forward pass of one image; None for a baseline."""
    bytes: int
    """The size of the files that predictions need, in bytes."""
    inference: dict[str, dict[str, float]]
    """The milliseconds per image (`time_per_image`) by batch size: `batch_1` and, unless images are
    predicted one by one, `batch_64`.
    """
    precision: str
    device: str
    threads: int
    unknown: str
    """The reason why the cost could not be measured; the other keys are then missing."""


@dataclass(frozen=True)
class Report:
    """A message of a trial to the driver, usually about a finished epoch.

    A trial also reports that it has found the checkpoint from which it continues (`restored`), that
    it waits for its storage (`waiting`), and that it has diverged; such reports have no metrics.
    """

    epoch: int
    metrics: dict[str, float] = field(default_factory=dict)
    outcome: str | None = None
    """None while the trial continues, else `completed`, `diverged` or `failed`."""
    reason: str = ""
    waiting: str = ""
    """The reason why the trial waits for its storage; empty if it does not wait."""
    precision: str = ""
    """The precision in which the epoch was trained: `fp32`, `bf16` or `fp16`.

    Empty for a baseline, and for reports without metrics.
    """
    folds: list[dict[str, float]] = field(default_factory=list)
    """With folds, the metrics of each fold, whose means are in `metrics`; else empty."""
    cost: Cost | None = None
    """The cost of using the classifier, in the first report with metrics, if it was requested."""
    restored: list[str] | None = None
    """For a trial that continues after `epoch`: a message for each checkpoint that cannot be used.

    None for every other report.
    """
    more: bool = field(default=False, compare=False)
    """True if the next report follows immediately, without training in between."""
    begun: WarmStart | None = None
    """For a trial that continues after `epoch`: the warm start that provided its first epochs.

    None if there is none, or if the driver knows of it already.
    """

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Build a report from the output of `to_json`."""
        warm_start = values["begun"]
        return cls(
            **{**values, "begun": WarmStart(**warm_start) if warm_start is not None else None}
        )

    def to_json(self) -> Json:
        """Return the fields as JSON-compatible values."""
        warm_start = dict(vars(self.begun)) if self.begun is not None else None
        return {**vars(self), "begun": warm_start}


def encode_reports(reports: Iterable[Report]) -> str:
    """Encode reports as JSON, to send them to another process."""
    return json.dumps([report.to_json() for report in reports])


def decode_reports(text: str) -> list[Report]:
    """Decode the output of `encode_reports`."""
    return [Report.from_json(values) for values in json.loads(text)]
