"""What the pictures take, done while a search still waits for something else: a thread imports it
while the last trials train, and another draws while the best trial is tested. Who needs them does
what is missing, and tells what is wrong.
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
    """Draws all that needs no test once the test part is opened: most processors are idle then. It
    listens to the journal.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.drawn: Drawn | None = None
        self._thread: Thread | None = None

    def __call__(self, event: Event) -> None:
        """Begin when the test does, once."""
        if event.kind == "opened" and self._thread is None:
            self._thread = Thread(target=self._draw, args=[self.driver.is_late], daemon=True)
            self._thread.start()

    def result(self) -> "Drawn | None":
        """What was drawn, once that is at its end; None if nothing was."""
        if self._thread is not None:
            self._thread.join()
        return self.drawn

    def _draw(self, few: bool) -> None:
        with suppress(Exception):  # `evidence.draw` tries again, and tells
            from search.views.page.artifacts import draw_untested

            self.drawn = draw_untested(self.driver.result, few=few)


def importing(driver: Driver, tick: Callable[[], None]) -> Callable[[], None]:
    """A tick that has what the pictures need imported, aside, while the last trials train: nobody
    waits for it then.
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
    """What pictures of so many trials take; in vain where this process ends meanwhile."""
    with suppress(Exception):
        from search.views.page.artifacts import get_ready

        get_ready(trials)
