"""The page as a view: it and all pictures are drawn at the end, before the search's last event.

The work is prepared while the search still waits for something else: one thread imports while the
last trials train, another draws while the best trial is tested. `keep` does what is still missing,
and reports errors.
"""

from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING

from search.decisions.driver import Driver
from search.journal.events import Opened
from search.journal.journal import Event
from search.views.base import View, ViewContext

if TYPE_CHECKING:
    from search.views.page.artifacts import DrawnPictures


def open_page(context: ViewContext) -> "ReportView | None":
    """Open the view; None where the search was already over, and its page exists."""
    return ReportView(context.driver) if context.driver is not None else None


class ReportView(View):
    """Draws the pictures that need no test while the test runs, and the others at the end.

    Most processors are idle while the best trial is tested.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._drawn: DrawnPictures | None = None
        self._thread: Thread | None = None
        self._imports = False

    def apply(self, event: Event) -> None:
        """Start drawing when the test begins, once."""
        if isinstance(event.data, Opened) and self._thread is None:
            thread = Thread(target=self._draw, args=[self.driver.is_late], daemon=True)
            with suppress(RuntimeError):  # no thread is available: it is drawn at the end
                thread.start()
                self._thread = thread

    def tick(self) -> None:
        """Import once what the pictures need, in a thread, while the last trials train."""
        driver = self.driver
        if self._imports or driver.outstanding > driver.at_once:
            return
        if driver.result.epochs_trained:
            self._imports = True
            with suppress(RuntimeError):  # no thread is available: it is imported at the end
                Thread(target=import_evidence, args=[len(driver.trials)], daemon=True).start()

    def keep(self) -> None:
        """Write the answer's evidence, the pictures and the page into the search's folder."""
        from search.views.page.artifacts import draw  # matplotlib is not needed before

        driver = self.driver
        draw(
            driver.result,
            driver.experiment.home,
            driver.journal,
            few=driver.is_late,
            drawn=self.drawn(),
        )

    def drawn(self) -> "DrawnPictures | None":
        """Wait for the drawing thread and return its pictures; None if it has none."""
        if self._thread is not None:
            self._thread.join()
        return self._drawn

    def _draw(self, few: bool) -> None:
        with suppress(Exception):  # `artifacts.draw` tries again, and reports the error
            from search.views.page.artifacts import draw_untested

            self._drawn = draw_untested(self.driver.result, few=few)


def import_evidence(trials: int) -> None:
    """Import the modules that pictures of this many trials need.

    Errors are ignored, since the process may end meanwhile.
    """
    with suppress(Exception):
        from search.views.page.artifacts import get_ready

        get_ready(trials)
