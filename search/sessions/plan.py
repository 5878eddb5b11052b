"""The plan of a session: what distinguishes a search, a refinement and a selection."""

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
    """The plan of a session, from its first event on.

    A session is a search from its beginning, a search from where it was cut off, or a selection.
    """

    verb: str
    first_event: SessionStart
    """Its first event, with the fields that only this kind of session has."""
    planned: int | None = None
    """The largest number of trainings; None: as many as the experiment has trials."""
    policy: MakePolicy = SearchPolicy
    phases: Callable[..., None] = run_phases
    """Trains, evaluates and tests; its parameters are those of `run_phases`."""
    exit_code: ExitCodeRule = exit_code
    reuses_trainings: bool = True
    """True if its trials may warm-start from what earlier searches have trained."""
    as_json: bool = False
    """True if its result is printed as JSON too."""
    advises: bool = True
    """True if its last lines say what may be done next (`ViewContext.advises`)."""
    evidence: Mapping[str, bytes] = field(default_factory=dict)
    """Files that are stored with the search from its beginning, by name."""

    @property
    def is_selection(self) -> bool:
        """True if it chooses among the trials of a search that has ended."""
        return isinstance(self.first_event, Selecting)

    @property
    def is_first(self) -> bool:
        """True if the journal begins with this session."""
        return isinstance(self.first_event, Started)

    def continuing_command(self, experiment: Experiment) -> Remedy:
        """The command that continues the session once it was interrupted."""
        return Remedy(
            "select" if self.is_selection else "resume", experiment.name, experiment.storage
        )

    def view_context(self, console: Terminal) -> ViewContext:
        """The context of its views where no driver is needed, since nothing is left to do."""
        return ViewContext(console, self.is_selection, self.as_json, advises=self.advises)
