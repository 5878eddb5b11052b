"""The interface of a driver's policy, which decides which trials are trained and which are stopped.

A policy decides, but writes nothing. If a method yields events, the driver writes each of them to
the journal, and passes it to `receive`, before it asks for the next one.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from search.decisions.shared_trainings import OtherTrainings
from search.design.experiment import Experiment
from search.journal.events import Concluded, EventData, Finished, Risked
from search.journal.journal import Event
from search.journal.result import SearchResult, TrialResult
from search.schedulers.base import Scheduler, Stop
from trainables.config import TrialConfig
from trainables.messages import Cost, WarmStartSource

Decisions = Iterator[EventData]


@dataclass(frozen=True)
class Record:
    """The access of a policy to its search: the results so far, the journal, and notes."""

    result: SearchResult
    """The result of the events so far."""
    events: Callable[[], list[Event]]
    """Reads the whole journal."""
    note: Callable[[str], None]
    """Prints a note to the user."""
    earlier: OtherTrainings | None = None
    """The trainings of earlier searches; None if they are not used."""


class Policy(Protocol):
    """The interface by which a driver gets decisions and passes events to the policy."""

    @property
    def experiment(self) -> Experiment:
        """The experiment, with the changes that were made while the search ran."""

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler, which manages the trials that wait at rungs."""

    @property
    def at_rung(self) -> Collection[str]:
        """Trials that have reached a rung, and are neither promoted nor held yet."""

    @property
    def by(self) -> str:
        """The value of `Decided.by` for the trials that the policy holds or stops."""

    @property
    def trials(self) -> dict[str, TrialResult]:
        """The trials that the driver trains, by name."""

    @property
    def more_now(self) -> bool:
        """True if a new trial can be proposed now."""

    @property
    def more_later(self) -> bool:
        """True if a new trial may be proposed after further results."""

    @property
    def ahead(self) -> int:
        """The maximum number of trials that may still be proposed."""

    @property
    def outcome(self) -> tuple[str, str]:
        """(outcome, reason) of the session, unless the driver closes it for another reason."""

    @property
    def may_wait(self) -> bool:
        """True if trials may be proposed even while many others wait for relatives."""

    @property
    def risk(self) -> Risked | None:
        """The risk of stopping the trials that wait at rungs; None if not known."""

    def extend(self, experiment: Experiment) -> None:
        """Replace the experiment by one with another number of trials, budget or concurrency."""

    def begin(self) -> Decisions:
        """Decide what to do at the start of a session, whose first event is in the journal."""

    def receive(self, data: EventData) -> None:
        """Receive an event of an earlier session, or one that the driver has just written."""

    def propose(self, *, idle: bool) -> Decisions:
        """Propose a new trial.

        If there is one, the last event is a `Suggested` with a config. `idle` is True if no trial
        is active or pending.
        """

    def judge(self, trial: str) -> Stop | None:
        """Return the policy's own reason to stop a trial; None if it has none.

        The scheduler's reasons are not included.
        """

    def follow_up(self) -> Decisions:
        """Decide on the consequences of trials that have ended."""

    def cost(self, trial: str, measured: Cost | None) -> Decisions:
        """Yield an event with the inference cost of a trial's network, before its first epoch.

        `measured` is the cost in the trial's report; None if it was not measured.
        """

    def must_wait(self, trial: str, active: Collection[str], pending: Collection[str]) -> bool:
        """True if a relative is training epochs that this trial needs, or will train them first."""

    def beginnings(self, trial: str) -> list[WarmStartSource]:
        """Return the sources for a warm start of a trial, the best first."""

    def milestones(self, config: TrialConfig) -> list[int]:
        """Return the epochs at which shorter trials of the same training may end."""

    def wants_cost(self, config: TrialConfig) -> bool:
        """True if a trial with this config should measure the inference cost of its network."""

    def last_word(self, outcome: str, reason: str) -> Finished | Concluded:
        """Create the last event of the session."""

    def save(self, folder: Path) -> None:
        """Save files next to the journal, such as the study of an algorithm."""


MakePolicy = Callable[[Experiment, Record], Policy]
