"""MLflow's projection of a search, written from its journal while it runs.

One background thread reads the file and writes what is new in batches (`runs`), with the journal's
own timestamps. Training waits for nothing here. When MLflow fails, the thread begins again from the
journal's first line: runs are found by their tags, and what they have already is not written twice.
So a search that was cut off, an outage and a second projection all end alike.

It is no view (`search.views.base`): it reads the file rather than what it is told, ends after the
journal's last event, which it has to write too, and has a part in the search's exit code.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from cluster.secrets import redact
from search.journal.events import Evidence, Started, Suggested
from search.journal.journal import FILE_NAME, DamagedJournal, Event, Tail
from search.tracking.runs import Runs

EVERY_S = 5.0
"""Seconds between two writes of new events: all that come meanwhile make one batch, and a trial
shorter than this takes three requests in all.
"""
RETRY_S = (1, 2, 5, 10, 20, 30)
PATIENCE_S = 30.0
"""Seconds that a search which is over waits for an MLflow that takes nothing."""


class Tracker:
    """Writes the journal to MLflow in a thread of its own.

    Tell it of the journal's events; `close` waits until MLflow has all of them.
    """

    def __init__(
        self,
        uri: str,
        folder: Path,
        *,
        say: Callable[[str], None] = lambda text: None,
        until: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Start the thread; `until` is as `Tail` takes it."""
        self.uri, self.folder, self.say, self.until = uri, folder, say, until
        self.error = ""
        """The reason why MLflow does not take what it should; empty while it does."""
        self.runs: Runs | None = None
        self.experiment_id = self.parent_run_id = ""
        self._tail = Tail(folder / FILE_NAME, until=until)
        self._progress = time.monotonic()
        self._news, self._closing, self._given_up = (
            threading.Event(),
            threading.Event(),
            threading.Event(),
        )
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Hear of an event and return at once.

        Events before the first trial runs are not written until it does: the processors have enough
        to do. What is kept as evidence can wait for the next event, or for the end.
        """
        if not isinstance(event.data, Started | Suggested | Evidence):
            self._news.set()

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until all is written, or MLflow has taken nothing for so long.

        In the latter case `error` says why.
        """
        self._progress = time.monotonic()
        self._closing.set()
        self._news.set()
        try:
            while self._thread.is_alive() and time.monotonic() - self._progress < patience_s:
                self._thread.join(0.1)
        finally:
            self._given_up.set()
            if self._thread.is_alive() and not self.error:
                self.error = "it has not answered yet"

    def _run(self) -> None:
        tries = 0
        while not self._given_up.is_set():
            self._news.wait()
            self._news.clear()
            last = self._closing.is_set()
            try:
                self._project()
            except DamagedJournal as error:
                self.error = str(error)
                return
            except Exception as error:  # noqa: BLE001 - whatever MLflow does wrong, training goes on
                self._note(error)
                tries += 1
                self._news.set()
                self._closing.wait(RETRY_S[min(tries, len(RETRY_S)) - 1])
                # A second between tries even while closing, when the wait above ends at once.
                self._given_up.wait(1)
            else:
                tries = 0
                if last:
                    return
                self._closing.wait(EVERY_S)

    def _project(self) -> None:
        if self.runs is None:
            self.runs, self._tail = (
                Runs(self.uri, self.folder, on_progress=self._step),
                Tail(self.folder / FILE_NAME, until=self.until),
            )
        self.runs.project(self._tail.new())
        self.experiment_id, self.parent_run_id = self.runs.experiment_id, self.runs.parent
        if self.error:
            self.error = ""
            self.say("MLflow takes everything again")

    def _step(self) -> None:
        self._progress = time.monotonic()

    def _note(self, error: Exception) -> None:
        self.runs = None
        lines = str(error).splitlines() or [type(error).__name__]
        text = redact(lines[0])[:300]
        if not self.error:
            self.say(
                f"MLflow does not take the results ({text}). Training goes on; the journal has "
                "them, and they are written when MLflow is back."
            )
        self.error = text


def troubles() -> tuple[type[Exception], ...]:
    """Return the exceptions that MLflow raises when it, its server or its database is in trouble.

    A missing database driver is an ImportError; errors of requests are OSErrors.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError, ImportError
