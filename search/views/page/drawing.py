"""Preparation of the pictures while a search still waits for something else.

One thread imports what they need while the last trials train, another draws while the best trial is
tested. Whoever needs the pictures does what is still missing, and reports errors.
"""

from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING

from search.decisions.driver import Driver
from search.journal.journal import Event

if TYPE_CHECKING:
    from search.views.page.artifacts import Drawn


class DrawingAside:
    """A thread that draws all pictures that need no test, once the test part is opened.

    Most processors are idle then. It listens to the journal.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.drawn: Drawn | None = None
        self._thread: Thread | None = None

    def __call__(self, event: Event) -> None:
        """Start drawing when the test begins, once."""
        if event.kind == "opened" and self._thread is None:
            self._thread = Thread(target=self._draw, args=[self.driver.is_late], daemon=True)
            self._thread.start()

    def result(self) -> "Drawn | None":
        """Wait until the drawing ends and return what was drawn; None if nothing was."""
        if self._thread is not None:
            self._thread.join()
        return self.drawn

    def _draw(self, few: bool) -> None:
        with suppress(Exception):  # `artifacts.draw` tries again, and reports the error
            from search.views.page.artifacts import draw_untested

            self.drawn = draw_untested(self.driver.result, few=few)


def importing(driver: Driver, tick: Callable[[], None]) -> Callable[[], None]:
    """Return `tick`, extended to import what the pictures need while the last trials train.

    The import runs in a thread, at a time when nobody waits for it.
    """
    begun = False

    def tick_and_import() -> None:
        nonlocal begun
        tick()
        if not begun and driver.outstanding <= driver.at_once and driver.result.epochs_trained:
            begun = True
            Thread(target=import_evidence, args=[len(driver.trials)], daemon=True).start()

    return tick_and_import


def import_evidence(trials: int) -> None:
    """Import what pictures of this many trials need.

    Errors are ignored: the process may end meanwhile.
    """
    with suppress(Exception):
        from search.views.page.artifacts import get_ready

        get_ready(trials)
