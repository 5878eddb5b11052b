"""The interface of a view, which receives the events of a search and shows them or the result.

Views decide nothing. A view that raises an error is closed; the others continue
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

    `tracking` holds the tracking URI and the ids of MLflow's experiment and parent run. `wall_s` is
    the duration of all sessions in seconds, including the work after the journal's last event.
    """

    experiment: Experiment
    result: SearchResult
    tracking: dict[str, str]
    exit_code: int
    wall_s: float


@dataclass(frozen=True)
class ViewContext:
    """The session that a view shows; a view's factory uses it to decide if the view applies."""

    console: Console
    """The terminal or log for progress: stderr."""
    is_selection: bool = False
    """True for a selection among the trials of a finished search."""
    as_json: bool = False
    """True with `--json`: stdout is reserved for the result as JSON."""
    driver: Driver | None = None
    """The driver of the session; None if nothing is left to run and only the result is shown."""
    planned: int = 0
    """Number of planned trials; for a selection, the maximum number of trainings."""
    advises: bool = True
    """True if the view should suggest next steps, since no other part of the command does so."""
    may_draw: bool = True
    """True if a table may be drawn on a terminal while the executor trains."""


class View:
    """Base class of all views. Its methods do nothing; override those that a view needs.

    All methods run in the driver's process and block it: slow work belongs in a thread. `apply` and
    `tick` are called during the session, `apply` also for events after `keep`. `keep` and `close`
    are called once each, and `render` last. A view that raises in `apply` or `tick` is closed and
    not called again.
    """

    def apply(self, event: Event) -> None:
        """Handle an event of this session, after it was written to disk.

        `ViewContext.driver.result` already includes it and all events of earlier sessions.
        """

    def tick(self) -> None:
        """Update the display; called several times a second, even if no event arrives."""

    def keep(self) -> None:
        """Write the view's files to the search's folder, and record them in the journal.

        Called before the session's last event; not called if the session is killed.
        """

    def close(self) -> None:
        """Release all resources. Called however the session ends; no event follows."""

    def render(self, finished: Finished) -> None:
        """Show the result, as the last step of a command.

        Not called if an error ended the session. If nothing was left to run, only `close` is called
        before it.
        """
