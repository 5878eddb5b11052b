"""The policy of a driver: what is trained, what goes no further, and when there is no more.

A policy decides, and writes nothing. Where a method yields events, the driver writes each of them
to the journal, and lets the policy hear it, before it asks for the next.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from search.decisions.shared_trainings import Known
from search.design.experiment import Experiment
from search.journal.events import Concluded, EventData, Finished, Risked
from search.journal.journal import Event
from search.journal.result import SearchResult, TrialResult
from search.schedulers.base import Scheduler, Stop
from trainables.checkpoints.lineage import WarmStartSource
from trainables.config import TrialConfig
from trainables.messages import Cost

Decisions = Iterator[EventData]


@dataclass(frozen=True)
class Record:
    """The facts that a policy may know of its search, beside what it has decided."""

    result: SearchResult
    """The result that the journal adds up to."""
    events: Callable[[], list[Event]]
    """Reads the journal from its beginning."""
    note: Callable[[str], None]
    """Tells people something that is no decision."""
    earlier: Known | None = None
    """The trainings of earlier searches; None where they are not used."""


class Policy(Protocol):
    """The decisions that a driver asks for, and the news that it tells."""

    @property
    def experiment(self) -> Experiment:
        """The search as it goes on now."""

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler, which knows the trials that wait at rungs."""

    @property
    def at_rung(self) -> Collection[str]:
        """Trials that have come to a rung, until it is decided whether they go on at once."""

    @property
    def by(self) -> str:
        """The name of what holds and stops trials."""

    @property
    def trials(self) -> dict[str, TrialResult]:
        """The trials, by name, that are the driver's to hand out."""

    @property
    def more_now(self) -> bool:
        """True if a new trial can be proposed now."""

    @property
    def more_later(self) -> bool:
        """True if a new trial may be proposed once more is heard."""

    @property
    def ahead(self) -> int:
        """The number of new trials that there may be."""

    @property
    def outcome(self) -> tuple[str, str]:
        """The outcome, and the reason, if nothing ends it early."""

    @property
    def may_wait(self) -> bool:
        """True if trials are proposed although many wait for what others train."""

    @property
    def risk(self) -> Risked | None:
        """The risk if no trial that waits goes on; None if that is not known."""

    def extend(self, experiment: Experiment) -> None:
        """Go on with the same search, of more or fewer trials or with another budget."""

    def begin(self) -> Decisions:
        """Begin a session, whose first event is in the journal."""

    def hear(self, data: EventData) -> None:
        """Hear of an event: one of an earlier session, or one that the driver has written."""

    def propose(self, *, idle: bool) -> Decisions:
        """Propose a new trial: the last event is that of a trial with a config, if there is one.

        `idle` is True if no trial is trained or waits.
        """

    def judge(self, trial: str) -> Stop | None:
        """Return why a trial is to go no further, whatever the scheduler says; None if it may."""

    def follow_up(self) -> Decisions:
        """Decide what follows from trials that have ended."""

    def cost(self, trial: str, measured: Cost | None) -> Decisions:
        """Decide what a trial costs to use, before its first epoch; `measured` is its own report's.

        None if it was not measured.
        """

    def must_wait(self, trial: str, active: Collection[str], pending: Collection[str]) -> bool:
        """Return whether another trial trains now, or will first, what this one needs."""

    def beginnings(self, trial: str) -> list[WarmStartSource]:
        """Return the warm start sources of a trial, the most useful first."""

    def milestones(self, config: TrialConfig) -> list[int]:
        """Return the epochs of a trial at which others of the same training may end."""

    def wants_cost(self, config: TrialConfig) -> bool:
        """Return whether a trial is to measure what it costs to use."""

    def last_word(self, outcome: str, reason: str) -> Finished | Concluded:
        """Return the event that ends the session."""

    def save(self, folder: Path) -> None:
        """Save beside the journal what others may read of it."""


MakePolicy = Callable[[Experiment, Record], Policy]
