"""The views that a session has opened.

What one of them raises is told once, and ends that one alone: the search, which needs none of them,
goes on, as do the others.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Self

from cluster.cli import write_traceback
from search.journal.journal import Event, TakenOver, Unwritten
from search.views.base import Finished, Shown, View
from search.views.registry import VIEWS
from search.views.terminal import say
from trainables.catalog.entries import import_object


class OpenViews:
    """The views that apply, between `with` and its end; `render` follows that."""

    def __init__(self, shown: Shown) -> None:
        """Nothing is opened before `with`."""
        self.shown = shown
        self.views: dict[str, View] = {}
        """The open views by their names in the registry."""
        self.unopened: dict[str, str] = {}
        """The names of those that could not be opened, and why."""

    def __enter__(self) -> Self:
        try:
            for name in VIEWS:
                try:
                    self._open(name)
                except Exception as error:  # noqa: BLE001 - the search goes on
                    self.unopened[name] = reason(error)
                    self._tell(name, f"could not be opened ({self.unopened[name]})")
        except BaseException:  # a signal: what is open may hold the terminal
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for name, why in self._failures(lambda view: view.close()):
            self._tell(name, f"failed at its end ({why})")

    def apply(self, event: Event) -> None:
        """Tell each view of an event of the journal."""
        self._go_on(lambda view: view.apply(event))

    def tick(self) -> None:
        """Give each view time to show what is due."""
        self._go_on(lambda view: view.tick())

    def keep(self) -> list[str]:
        """Have each view write what is kept; return a line for each that could not.

        Raises:
            TakenOver: another driver has the search.
        """
        return [
            f"{VIEWS[name].title} could not be written ({why}). The journal has everything."
            for name, why in self._failures(lambda view: view.keep())
        ]

    def render(self, finished: Finished) -> list[str]:
        """Have each view show the result; return a line for each that could not.

        Those that could not be opened are among them: what they were to show is missing.

        Raises:
            BrokenPipeError: whoever read the output has seen enough.
        """
        return [
            f"{VIEWS[name].title} could not be shown ({why}). The journal has everything."
            for name, why in (
                *self.unopened.items(),
                *self._failures(lambda view: view.render(finished), passing=BrokenPipeError),
            )
        ]

    def _open(self, name: str) -> None:
        view: View | None = import_object(VIEWS[name].opens)(self.shown)
        if view is not None:
            self.views[name] = view

    def _go_on(self, call: Callable[[View], None]) -> None:
        """Call each view; one that raises is closed, and hears no more."""
        for name, why in self._failures(call):
            with suppress(Exception):  # it is told already
                self.views.pop(name).close()
            self._tell(name, f"failed ({why}) and is left out from here on. The search goes on")

    def _failures(
        self, call: Callable[[View], None], *, passing: type[Exception] = TakenOver
    ) -> Iterator[tuple[str, str]]:
        """Call each view; yield the name of each that raised, and why.

        What is `passing` is raised: it is about the search, or the command, rather than the view.
        """
        for name, view in list(self.views.items()):
            try:
                call(view)
            except passing:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a view raises, the search goes on
                yield name, reason(error)

    def _tell(self, name: str, what: str) -> None:
        with suppress(OSError):  # the terminal may be what refuses
            say(
                self.shown.console,
                f"note: {VIEWS[name].title} {what}; the journal has everything.",
            )


def reason(error: Exception) -> str:
    """Return why a view raised: what the system refuses, or where the details of a mistake are.

    To be called while the error is handled.
    """
    if isinstance(error, OSError | Unwritten):
        return str(error)
    return f"{type(error).__name__}: {error}; the details are in {write_traceback()}"
