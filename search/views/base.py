"""The interface of a view: it receives a search's events, and shows them or the result.

Views decide nothing. A view that raises an error is closed; the others continue
(`search.views.opened`). To add one, write it in a file and name it in `search.views.registry`.
"""

from dataclasses import dataclass

from rich.console import Console

from search.decisions.driver import Driver
from search.design.experiment import Experiment
from search.journal.journal import Event
from search.journal.result import SearchResult


@dataclass(frozen=True)
class Finished:
    """A search whose session has ended.

    `tracking` says where MLflow has its runs. `wall_s` are the seconds of all its sessions,
    including the work after the journal's last event.
    """

    experiment: Experiment
    result: SearchResult
    tracking: dict[str, str]
    exit_code: int
    wall_s: float


@dataclass(frozen=True)
class ViewContext:
    """The session that a view shows; from this a view decides whether it applies."""

    console: Console
    """The terminal or log for progress: stderr."""
    is_selection: bool = False
    """True for a selection among the trials of a search that has ended."""
    as_json: bool = False
    """True if stdout is for the result as JSON."""
    driver: Driver | None = None
    """The driver of the session; None if nothing is left to do and only a result is shown."""
    planned: int = 0
    """The number of planned trials, or for a selection the most trainings."""
    advises: bool = True
    """True if the view should suggest next steps, since no other part of the command does."""
    may_draw: bool = True
    """True if a table may be drawn on a terminal while the executor trains."""


class View:
    """Shows a search; a view overrides the methods that it needs.

    All methods run in the driver's process and block it: slow work belongs in a thread. `apply` and
    `tick` are called while the session continues, also for events after `keep`; `keep` and `close`
    once each, and `render` last. A view that raises in `apply` or `tick` is closed and not called
    again.
    """

    def apply(self, event: Event) -> None:
        """Receive an event of this session, once it is on disk.

        `ViewContext.driver.result` already includes it, and all events of earlier sessions.
        """

    def tick(self) -> None:
        """Redraw what is due; called several times a second, also while nothing happens."""

    def keep(self) -> None:
        """Write the files that are kept with the search, and journal them.

        Called before the session's last event; not called if the session is killed.
        """

    def close(self) -> None:
        """Release all resources: no event follows. Called however the session ends."""

    def render(self, finished: Finished) -> None:
        """Show the result, as the last step of a command.

        Not called where an error has ended the session. Where nothing was left to do, only `close`
        is called before it.
        """
