"""The plan of a session: the differences between a search, a refinement and a selection."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from search.decisions.policy import MakePolicy
from search.decisions.search_policy import SearchPolicy
from search.design.experiment import Experiment
from search.journal.events import Selecting, SessionStart, Started
from search.sessions.ending import ExitCodeRule, exit_code
from search.sessions.phases import run_phases
from search.values.message import Remedy
from search.views.base import ViewContext
from search.views.terminal import Terminal


@dataclass(frozen=True)
class SessionPlan:
    """The plan of a session: its first event, its policy, its phases and its output.

    A session starts a search, continues an interrupted one, or runs a selection.
    """

    verb: str
    """The verb that runs the session, such as `search.run`."""
    first_event: SessionStart
    """The session's first event, with only the fields that are specific to this kind of session."""
    planned: int | None = None
    """The maximum number of trainings; None for the planned trials of the experiment."""
    policy: MakePolicy = SearchPolicy
    phases: Callable[..., None] = run_phases
    """Trains, evaluates and tests; its parameters are those of `run_phases`."""
    exit_code: ExitCodeRule = exit_code
    reuses_trainings: bool = True
    """True if the session's trials may warm-start from trainings of earlier searches."""
    as_json: bool = False
    """True if the session's result is also printed as JSON."""
    advises: bool = True
    """True if the last lines of the output suggest the next commands (`ViewContext.advises`)."""
    evidence: Mapping[str, bytes] = field(default_factory=dict)
    """Files to store with the search at its start; maps names to contents."""

    @property
    def is_selection(self) -> bool:
        """True if the session selects among the trials of a finished search."""
        return isinstance(self.first_event, Selecting)

    @property
    def is_first(self) -> bool:
        """True if the journal begins with this session."""
        return isinstance(self.first_event, Started)

    def continuing_command(self, experiment: Experiment) -> Remedy:
        """Return the command that continues the session after an interruption."""
        return Remedy(
            "select" if self.is_selection else "resume", experiment.name, experiment.storage
        )

    def view_context(self, console: Terminal) -> ViewContext:
        """Create the context of the session's views, without a driver.

        A session that has something left to do adds its driver.
        """
        return ViewContext(console, self.is_selection, self.as_json, advises=self.advises)
