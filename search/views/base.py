"""The interface of a view, which receives the events of a search, and shows them or the result.

Views make no decisions. A view that raises an error is closed, and the others continue
(`search.views.opened`). To add a view, write it in a module and name it in `search.views.registry`.
"""

from dataclasses import dataclass

from rich.console import Console

from search.decisions.driver import Driver
from search.design.experiment import Experiment
from search.journal.journal import Event
from search.journal.result import SearchResult


@dataclass(frozen=True)
class Finished:
    """A search at the end of a session.

    `tracking` has the keys `tracking_uri`, `experiment_id` and `parent_run_id` of MLflow. `wall_s`
    is the duration of all sessions in seconds, including the time after the journal's last event.
    """

    experiment: Experiment
    result: SearchResult
    tracking: dict[str, str]
    exit_code: int
    wall_s: float


@dataclass(frozen=True)
class ViewContext:
    """The session that a view shows; the view's factory uses it to decide if the view applies."""

    console: Console
    """The console on stderr, where progress is printed."""
    is_selection: bool = False
    """True for a selection among the trials of a finished search."""
    as_json: bool = False
    """True with `--json`: stdout is reserved for the result as JSON."""
    driver: Driver | None = None
    """The driver of the session; None if nothing is left to run and only the result is shown."""
    planned: int = 0
    """Number of planned trials; for a selection, the maximum number of trainings."""
    advises: bool = True
    """True if the view should suggest next steps, because the rest of the command does not."""
    may_draw: bool = True
    """True if a table may be drawn on a terminal while the executor trains."""


class View:
    """Base class of all views. Its methods do nothing; override those that a view needs.

    All methods run in the driver's process and block it, so slow work belongs in a thread. `apply`
    and `tick` are called during the session; `apply` is also called for events after `keep`. `keep`
    and `close` are called at most once each, and `render` is called last. A view that raises in
    `apply` or `tick` is closed and not called again.
    """

    def apply(self, event: Event) -> None:
        """Handle an event of this session, which is already on disk.

        `ViewContext.driver.result` includes this event, all earlier ones, and those that were
        written together with it.
        """

    def tick(self) -> None:
        """Update the display; called several times a second, even if no event arrives."""

    def keep(self) -> None:
        """Write the view's files to the search's folder, and record them in the journal.

        It is called before the session's last event, but not if the session is killed.
        """

    def close(self) -> None:
        """Release all resources. It is called even after an error; no event follows."""

    def render(self, finished: Finished) -> None:
        """Show the result, as the last step of a command.

        It is not called if an error ended the session. If nothing was left to run, `close` is the
        only method that is called before it.
        """
