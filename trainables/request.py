"""The request for an attempt at a trial, beside its config. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainables.checkpoints.lineage import WarmStartSource
from trainables.checkpoints.remote import Mirror


@dataclass(frozen=True, kw_only=True)
class TrialRequest:
    """An attempt at a trial: where it continues, and what it keeps for other trials."""

    attempt: int = 1
    """The attempt's number, from 1."""
    known: int = 0
    """The last epoch that the driver knows of. Later ones that an earlier attempt has trained are
    reported again.
    """
    beginnings: Sequence[WarmStartSource] = ()
    """Trials that have trained the first epochs of this one, which then continues from there.
    Damaged ones are skipped.
    """
    milestones: Sequence[int] = ()
    """Epochs at which other trials of this config end: the checkpoints that they need are kept."""
    with_cost: bool = False
    """True if the cost of using the network is to be measured too."""
    mirror: Mirror | None = None
    """Where the checkpoints are stored, if the trial's folder is local to this machine. A report is
    sent only once its checkpoint is there.
    """
