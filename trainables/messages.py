"""The messages between the driver and a trial: the request for an attempt, and its reports.

This module does not import torch, because the driver imports it too.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self, TypedDict

from trainables.disk import cache_folder, make_private

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


class Mirror(Protocol):
    """The remote storage of a trial's checkpoints.

    Each method raises OSError if the storage fails.
    """

    def read(self, name: str) -> str | None:
        """Return the text of a small file; None if it is missing."""

    def write(self, name: str, text: str) -> None:
        """Store a small file."""

    def beat(self, text: str) -> None:
        """Store a heartbeat (`trainables.checkpoints.heartbeat`)."""

    def names(self) -> list[str]:
        """Return the names of the complete checkpoints."""

    def pull(self, folder: Path, *, only: str = "") -> None:
        """Make the checkpoints in `folder` equal to the stored ones.

        If `only` names a checkpoint, no other checkpoint is copied or removed.
        """

    def push(
        self,
        folder: Path,
        names_to_keep: Collection[str],
        still_ours: Callable[[], None] = lambda: None,
    ) -> None:
        """Store the checkpoints in `folder`, and remove old ones from the storage.

        A stored checkpoint stays if it is also in `folder`, or if its name is in `names_to_keep`.
        `still_ours` raises if a newer attempt has started.
        """


@dataclass(frozen=True)
class WarmStartSource:
    """A trial, in this or another search, that has trained the first epochs of the trial to start.

    This object can be serialised, to be sent to other machines.
    """

    search: str
    trial: str
    folder: str
    epoch: int
    """The last epoch that the trial is known to have trained; it may have trained more since."""
    mirror: Mirror | None = None
    """The remote storage of the trial's checkpoints; None if `folder` is accessible from here."""

    def __str__(self) -> str:
        return f"{self.trial} of '{self.search}'"


@dataclass(frozen=True)
class WarmStart:
    """The trial whose checkpoint another trial continued, and the number of reused epochs."""

    search: str
    trial: str
    epoch: int

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Parse `begun.json`, a trial's record of its warm start; None if it is not valid."""
        with suppress(ValueError, TypeError):
            return cls(**json.loads(text or ""))
        return None


@dataclass(frozen=True, kw_only=True)
class TrialRequest:
    """The parameters of an attempt: where it continues, and which checkpoints it keeps."""

    attempt: int = 1
    """The attempt's number, from 1."""
    known: int = 0
    """The last epoch whose report the driver has received; 0 for none.

    Later epochs that an earlier attempt has trained are reported again.
    """
    beginnings: Sequence[WarmStartSource] = ()
    """Trials that have trained the first epochs of this one.

    This trial continues from the one with the most epochs. Damaged checkpoints are skipped.
    """
    milestones: Sequence[int] = ()
    """Epochs at which other trials of the same training end.

    The checkpoints that those trials need are kept.
    """
    with_cost: bool = False
    """True to measure the cost of using the classifier too (`Report.cost`)."""
    measures: Sequence[str] = ()
    """What to measure after each epoch besides the task's metrics: the keys of an epoch's values.

    They are keys of `trainables.robustness.measure.MEASUREMENTS`.
    """
    mirror: Mirror | None = None
    """The remote storage of the checkpoints; None if they stay in the trial's folder.

    An epoch is reported only after its checkpoint has been stored there.
    """

    def training_folder(self, place: str, rank: int = 0) -> Path:
        """Return the folder in which this process trains the trial that is stored at `place`.

        It is `place` itself or, with a mirror, a local folder for this attempt and process. `rank`
        is the number of the process among those that train the trial.
        """
        if self.mirror is None:
            return Path(place)
        folder = cache_folder("storage")
        with suppress(OSError):  # the code that writes to the folder reports the error
            make_private(folder)
        name = f"{hashlib.sha256(place.encode()).hexdigest()[:12]}-{self.attempt}"
        return folder / "trained" / name / f"rank-{rank}" / Path(place).name

    def remove_local_folder(self, place: str, rank: int = 0) -> None:
        """Remove the local folder that `training_folder` returned; without a mirror, do nothing."""
        if self.mirror is not None:
            folder = self.training_folder(place, rank).parent
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # other processes still have folders there
                folder.parent.rmdir()


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


def encode_reports(reports: Iterable[Report]) -> str:
    """Encode reports as JSON, to send them to another process."""
    return json.dumps([vars(report) for report in reports], default=vars)


def decode_reports(text: str) -> list[Report]:
    """Decode the output of `encode_reports`."""
    return [
        Report(**{**values, "begun": values["begun"] and WarmStart(**values["begun"])})
        for values in json.loads(text)
    ]
