"""A request: what a worker is asked of a trial, beside its config. Free of torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainables.checkpoints.lineage import WarmStartSource
from trainables.checkpoints.remote import Mirror


@dataclass(frozen=True, kw_only=True)
class TrialRequest:
    """An attempt at a trial: from where it goes on, and what it leaves for others."""

    attempt: int = 1
    """The attempt's number, from 1."""
    known: int = 0
    """The last epoch that whoever listens has heard of; later ones that an earlier attempt has
    trained are reported again.
    """
    beginnings: Sequence[WarmStartSource] = ()
    """Trials that have trained the first epochs of this one, which then goes on from there; one
    that is damaged is passed over.
    """
    milestones: Sequence[int] = ()
    """Epochs at which other trials of this config end, which are to find there what they need."""
    with_cost: bool = False
    """True if it is to be measured too what the network costs to use."""
    mirror: Mirror | None = None
    """The place where the checkpoints are kept, if the trial's folder is only this machine's: they
    are there before the report is out.
    """
