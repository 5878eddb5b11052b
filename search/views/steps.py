"""Steps that take longer than a moment, shown at the terminal while they last.

While a step is shown, lines may be printed with `print`, but not by another console of rich.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainables.errors import printable
from trainables.progress import watched_by

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.progress import Progress, TaskID

AFTER_S = 0.3
"""Seconds after the beginning of a step until it is shown."""


def show_steps() -> "AbstractContextManager[None]":
    """Return a context in which steps are shown, if stderr is a terminal."""
    is_shown = sys.stderr is not None and sys.stderr.isatty()  # None if it is closed
    return _showing() if is_shown else nullcontext()


@contextmanager
def _showing() -> Iterator[None]:
    display = StepDisplay()
    try:
        with watched_by(display):
            yield
    finally:
        display.close()


@dataclass
class OpenStep:
    """A step that has not ended."""

    text: str
    total: int | None
    count: int = 0
    task: "TaskID | None" = None
    """The line that shows it; None before it is shown."""

    @property
    def line(self) -> str:
        """The line's text: what is being done and, if the number is known, how far it is."""
        return self.text + ("" if self.total is None else f": {self.count:,} of {self.total:,}")


class StepDisplay:
    """A `Watcher` that shows the steps on stderr, a line a step, and removes each at its end."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._steps: dict[int, OpenStep] = {}
        self._begun = 0
        self._timer: threading.Timer | None = None
        self._progress: Progress | None = None

    def begin(self, text: str, total: int | None) -> int:
        """Show a step in a moment, or at once if steps are shown already."""
        with self._lock:
            self._begun += 1
            self._steps[self._begun] = OpenStep(printable(text), total)
            if self._progress is not None:
                self._add(self._progress, self._steps[self._begun])
            elif self._timer is None:
                self._timer = threading.Timer(AFTER_S, self._show)
                self._timer.daemon = True
                self._timer.start()
            return self._begun

    def advance(self, number: int) -> None:
        """Count one more thing; after an error, a thread may do so when the step has ended."""
        with self._lock:
            step = self._steps.get(number)
            if step is None:
                return
            step.count += 1
            if self._progress is not None and step.task is not None:
                self._progress.update(step.task, description=step.line)

    def end(self, number: int) -> None:
        """Remove the line of a step; with the last one, the display ends."""
        with self._lock:
            step = self._steps.pop(number)
            if self._progress is not None and step.task is not None:
                self._progress.remove_task(step.task)
            if not self._steps:
                self.close()

    def close(self) -> None:
        """End the display, and leave nothing on the terminal."""
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if self._progress is not None:  # forgotten only then: a signal may interrupt `stop`
            self._progress.stop()
            self._progress = None

    def _show(self) -> None:
        """Begin to show the open steps; the timer's thread calls this."""
        # Imported here because it takes a moment, and most commands are over by then.
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        from search.views.terminal import Terminal

        with self._lock:
            if self._timer is None or not self._steps:
                return
            self._timer = None
            self._progress = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                TimeElapsedColumn(),
                console=Terminal(stderr=True),
                transient=True,
                # At the terminal, lines of both streams are printed above the steps. A program
                # that reads stdout must get what is printed there.
                redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
            )
            self._progress.start()
            for step in self._steps.values():
                self._add(self._progress, step)

    def _add(self, progress: "Progress", step: OpenStep) -> None:
        step.task = progress.add_task(step.line, total=None)
