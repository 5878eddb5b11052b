"""The page as a view: it is drawn at the end of a search, before the last event.

Most of the work is done earlier, while the search waits for something else. One thread imports
modules while the last trials train, and another one draws while the best trial is tested. `keep`
does the remaining work. Only `keep` raises errors.
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
    """Open the view; None if nothing is left to run, so that the page already exists."""
    return ReportView(context.driver) if context.driver is not None else None


class ReportView(View):
    """Draws most pictures while the best trial is tested, and those of the test result at the end.

    During the test, most processors are idle.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._drawn: DrawnPictures | None = None
        self._thread: Thread | None = None
        self._imports = False

    def apply(self, event: Event) -> None:
        """Start drawing in a thread when the test begins, unless drawing has already started."""
        if isinstance(event.data, Opened) and self._thread is None:
            thread = Thread(target=self._draw, args=[self.driver.is_late], daemon=True)
            with suppress(RuntimeError):  # if no thread can be started, `keep` draws everything
                thread.start()
                self._thread = thread

    def tick(self) -> None:
        """Import the modules for drawing once, in a thread, while the last trials train."""
        driver = self.driver
        if self._imports or driver.outstanding > driver.at_once:
            return
        if driver.result.epochs_trained:
            self._imports = True
            with suppress(RuntimeError):  # if no thread can be started, `keep` imports everything
                Thread(target=import_evidence, daemon=True).start()

    def keep(self) -> None:
        """Write the answer's evidence, the pictures and the page into the search's folder."""
        from search.views.page.artifacts import draw  # matplotlib is slow to import

        driver = self.driver
        draw(
            driver.result,
            driver.experiment.home,
            driver.journal,
            few=driver.is_late,
            drawn=self.drawn(),
        )

    def drawn(self) -> "DrawnPictures | None":
        """Wait for the thread that draws, and return its pictures; None if it has drawn none."""
        if self._thread is not None:
            self._thread.join()
        return self._drawn

    def _draw(self, few: bool) -> None:
        with suppress(Exception):  # `artifacts.draw` tries again, and reports the error
            from search.views.page.artifacts import draw_untested

            self._drawn = draw_untested(self.driver.result, few=few)


def import_evidence() -> None:
    """Import the modules that draw, or wait for another thread that is importing them.

    Errors are ignored, since the process may exit during the import. `keep` reports errors that
    persist.
    """
    with suppress(Exception):
        import search.views.page.artifacts  # noqa: F401
