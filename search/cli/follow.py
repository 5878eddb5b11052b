"""Follows a search at the terminal until it ends, for `search.status --follow`."""

import time
from collections.abc import Callable
from contextlib import nullcontext

from rich.console import Group
from rich.live import Live
from rich.text import Text

from cluster.secrets import redact
from search.facts.standing import SearchStanding
from search.journal.journal import Event
from search.journal.result import SearchResult
from search.journal.store import BucketHome, Home, Storage
from search.process.liveness import Liveness
from search.values.wording import duration
from search.views.live import news
from search.views.standing import rows_left, status_lines, trials_table
from search.views.terminal import Terminal, say
from search.views.text.labels import best_text, outcome_text
from trainables.errors import printable

EVERY_S = 10.0
"""Seconds between two checks of a search in a bucket; in a folder, a fifth of this time."""


class Follow:
    """Shows a search until it ends.

    On a terminal, the table of trials is redrawn; otherwise a line is printed for each change.
    """

    def __init__(
        self,
        name: str,
        home: Home,
        storage: Storage,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare to follow a search.

        Args:
            name: the search's name, for commands in the text.
            home: the search's place in the storage.
            storage: the storage, for commands in the text.
            wait: sleeps between two checks; its argument is the number of seconds.
        """
        self.name, self.home, self.storage = name, home, storage
        self.liveness = Liveness(home, wait)
        self.console, self.result = Terminal(), SearchResult()
        self.tail = home.tail()
        self.last = ""

    def run(self) -> int:
        """Show the search until it ends, and return the exit code.

        Raises:
            JournalError: the search was cut off before its first event.
        """
        live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        with live or nullcontext():
            while True:
                # Check the lock before reading the journal: a driver writes its last lines before
                # it releases the lock, so this loop cannot end before it has read them.
                holder = self.home.holder()
                events = self._new()
                for event in events:
                    self.result.apply(event)
                gone_text = self._gone_text(holder, events)
                if gone_text:
                    holder = ""
                if not holder:
                    self.result.cut_off()
                standing = SearchStanding(
                    self.name, self.result.until_now(holder), holder, self.storage
                )
                if standing.result.sessions and live is not None:
                    live.update(self._draw(standing), refresh=True)
                elif standing.result.sessions:
                    self._print(standing, events)
                elif not holder:
                    SearchResult.read(self.home.opened())  # raises an error with the cause
                if not holder:
                    break
                every_s = EVERY_S if isinstance(self.home, BucketHome) else EVERY_S / 5
                self.liveness.wait(every_s)
        if gone_text:
            say(self.console, gone_text)
        return 0

    def _new(self) -> list[Event]:
        """Read the events since the last check; empty if there is no journal yet."""
        try:
            return self.tail.new()
        except FileNotFoundError:
            return []

    def _gone_text(self, holder: str, events: list[Event]) -> str:
        """Check whether the driver is alive; return a text if it has probably died, else ""."""
        self.liveness.look(events)
        if not holder or not self.liveness.is_lost:
            return ""
        quiet = duration(self.liveness.quiet_s)
        return f"probably cut off: {holder}; nothing was written for {quiet}"

    def _draw(self, standing: SearchStanding) -> Group:
        lines = status_lines(standing)
        texts = [Text(printable(redact(line))) for line in lines]
        rows = rows_left(self.console, lines)
        table = [trials_table(standing.result, rows=rows)] if standing.result.trials else []
        return Group(*texts, *table)

    def _print(self, standing: SearchStanding, events: list[Event]) -> None:
        """Print a line for each new event; the first and the last call print the whole state."""
        result = standing.result
        if not self.last or not standing.holder:
            lines = status_lines(standing)
        else:
            lines = [line for event in events for line in news(event)]
        for line in lines:
            say(self.console, line)
        reached = f"; {best_text(result)}" if result.best is not None else ""
        line = f"{outcome_text(result)} of {result.started.experiment['trials']}{reached}"
        if self.last and standing.holder and line != self.last:
            say(self.console, line)
        self.last = line
