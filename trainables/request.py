"""The request for an attempt at a trial: its parameters besides the config.

This module does not import torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from trainables.checkpoints.lineage import WarmStartSource
from trainables.checkpoints.remote import Mirror


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
