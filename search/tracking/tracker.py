"""Writes a search to MLflow while it runs, from its journal.

A background thread reads the journal file, and writes new events in batches (`runs`), with the
timestamps of the journal. Training never waits for the thread. After a failure of MLflow, the
thread starts again at the first line of the journal. It finds existing runs by their tags, and does
not write values again that these runs already have. So the result is the same after an interrupted
search, after an outage, or if the journal is written to MLflow a second time.

A `Tracker` is not a view (`search.views.base`): it reads the file instead of receiving events, it
ends only after the last event has been written, and it affects the exit code of the search.
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
"""Seconds between two writes to MLflow.

The events in between form one batch, so a trial that is shorter than this takes only three
requests.
"""
RETRY_S = (1, 2, 5, 10, 20, 30)
"""Seconds to wait after consecutive failures; the last value is used for all further ones."""
PATIENCE_S = 30.0
"""Default seconds without progress after which `close` stops waiting for MLflow."""


class Tracker:
    """Writes the journal to MLflow in a background thread.

    Call it with each event. At the end call `close`, which waits until MLflow has all events.
    """

    def __init__(
        self,
        uri: str,
        folder: Path,
        *,
        say: Callable[[str], None] = lambda text: None,
        until: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Start the thread.

        Args:
            uri: the tracking URI.
            folder: the folder of the search, with its journal.
            say: prints a line when MLflow fails, and when it works again.
            until: returns the number of bytes of the journal to read; None for all (see `Tail`).
        """
        self.uri, self.folder, self.say, self.until = uri, folder, say, until
        self.error = ""
        """The last error of MLflow; empty if the last write succeeded."""
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
        """Wake the thread for a new event, and return immediately.

        `Started` and `Suggested` do not wake the thread, since the CPUs are busy with starting
        workers when a search begins. `Evidence` is written with the next event, or at the end.
        """
        if not isinstance(event.data, Started | Suggested | Evidence):
            self._news.set()

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until all events are written, or MLflow has made no progress for `patience_s`.

        In the second case, `error` is not empty.
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
                self.error = "it has not responded yet"

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
            except Exception as error:  # noqa: BLE001 - no error of MLflow may stop training
                self._note(error)
                tries += 1
                self._news.set()
                self._closing.wait(RETRY_S[min(tries, len(RETRY_S)) - 1])
                # While closing, the wait above ends at once; wait a second before the next attempt.
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
            self.say("MLflow accepts the results again")

    def _step(self) -> None:
        self._progress = time.monotonic()

    def _note(self, error: Exception) -> None:
        self.runs = None
        lines = str(error).splitlines() or [type(error).__name__]
        text = redact(lines[0])[:300]
        if not self.error:
            self.say(
                f"MLflow does not accept the results ({text}). Training continues; the results are "
                "in the journal, and are written to MLflow when it is available again."
            )
        self.error = text


def troubles() -> tuple[type[Exception], ...]:
    """Return the types of the exceptions that are raised if MLflow, its server or database fails.

    They include ImportError, for a missing database driver, and OSError, for a failed request.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError, ImportError
