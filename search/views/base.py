"""The interface of a view: it hears of a search's events, and shows them or the result.

Views decide nothing. What one of them raises ends that one alone (`search.views.opened`). To add
one, write it in a file and name it in `search.views.registry`.
"""

from dataclasses import dataclass

from rich.console import Console

from search.decisions.driver import Driver
from search.design.experiment import Experiment
from search.journal.journal import Event
from search.journal.result import SearchResult


@dataclass(frozen=True)
class Finished:
    """A search that came to its end.

    It holds what was searched, its result, where MLflow has it, the exit code that tells the truth,
    and the seconds that all of its sessions took, with what followed the journal's last event.
    """

    experiment: Experiment
    result: SearchResult
    tracking: dict[str, str]
    exit_code: int
    wall_s: float


@dataclass(frozen=True)
class Shown:
    """The session that is shown: by this a view decides whether it applies."""

    console: Console
    """The terminal, or the log, for what happens meanwhile: stderr."""
    is_selection: bool = False
    """True if it is a selection among the trials of a search that has ended."""
    as_json: bool = False
    """True if stdout is for the result as JSON."""
    driver: Driver | None = None
    """The driver of the session that begins; None if nothing is left to do, and there is only a
    result to show."""
    planned: int = 0
    """The number of trials, or of a selection the most trainings, that are planned."""
    advises: bool = True
    """True if it is to say what may be done next, since no other part of the command does."""
    may_draw: bool = True
    """True if a table may be drawn on a terminal while the executor trains."""


class View:
    """Shows a search to somebody; each method does nothing where a view does not need it.

    All are called in the driver's process and make it wait: what takes long belongs into a thread.
    Called are `apply` and `tick` while the session goes on, also for what is journaled after
    `keep`; `keep` and `close` once each, and at last `render`. A view that has raised in `apply` or
    `tick` is closed and called no more.
    """

    def apply(self, event: Event) -> None:
        """Hear of an event of this session, once it is on disk.

        `Shown.driver.result` has it already, and all events of earlier sessions.
        """

    def tick(self) -> None:
        """Show what is due: called several times a second, also while nothing happens."""

    def keep(self) -> None:
        """Write what is kept with the search, and say so in its journal, which is open still.

        Called before the session's last event; not if the session ends in a hurry.
        """

    def close(self) -> None:
        """Let go of everything: no event follows. Called however the session ends."""

    def render(self, finished: Finished) -> None:
        """Show the result: the last thing that a command does.

        Not called where an error has ended the session. Where there was none, because nothing was
        left to do, nothing but `close` is called before it.
        """
