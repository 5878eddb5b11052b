"""The views that a session has opened.

A view that raises an error is reported once and closed. The other views continue, and so does the
search, which does not depend on views.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Self

from cluster.cli import write_traceback
from search.journal.journal import Event, TakenOver, Unwritten
from search.views.base import Finished, View, ViewContext
from search.views.registry import VIEWS
from search.views.terminal import say
from trainables.catalog.entries import import_object


class OpenViews:
    """Context manager that opens the views that apply, and closes them at its end.

    `render` is called after the `with` block.
    """

    def __init__(self, context: ViewContext) -> None:
        """Store the context; entering the `with` block opens the views."""
        self.context = context
        self.views: dict[str, View] = {}
        """The open views, by their names in the registry."""
        self.unopened: dict[str, str] = {}
        """The reasons why views could not be opened, by the name of the view."""

    def __enter__(self) -> Self:
        try:
            for name in VIEWS:
                try:
                    self._open(name)
                except Exception as error:  # noqa: BLE001 - the search continues
                    self.unopened[name] = reason(error)
                    self._tell(name, f"could not be opened ({self.unopened[name]})")
        except BaseException:  # on a signal, close the views that may have changed the terminal
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for name, why in self._failures(lambda view: view.close()):
            self._tell(name, f"failed when it was closed ({why})")

    def apply(self, event: Event) -> None:
        """Pass an event of the journal to each view."""
        self._go_on(lambda view: view.apply(event))

    def tick(self) -> None:
        """Let each view update its display."""
        self._go_on(lambda view: view.tick())

    def keep(self) -> list[str]:
        """Let each view write its files; return an error message for each view that failed.

        Raises:
            TakenOver: another driver has taken over the search.
        """
        return [
            f"{VIEWS[name].title} could not be written ({why}). All results are in the journal."
            for name, why in self._failures(lambda view: view.keep())
        ]

    def render(self, finished: Finished) -> list[str]:
        """Let each view show the result; return an error message for each view that could not.

        Raises:
            BrokenPipeError: the reader of the output has closed it.
        """
        return [
            f"{VIEWS[name].title} could not be shown ({why}). All results are in the journal."
            for name, why in (
                *self.unopened.items(),
                *self._failures(lambda view: view.render(finished), passing=BrokenPipeError),
            )
        ]

    def _open(self, name: str) -> None:
        view: View | None = import_object(VIEWS[name].opens)(self.context)
        if view is not None:
            self.views[name] = view

    def _go_on(self, call: Callable[[View], None]) -> None:
        """Apply `call` to each view; a view that raises is closed and not called again."""
        for name, why in self._failures(call):
            with suppress(Exception):  # the first error is reported below
                self.views.pop(name).close()
            self._tell(name, f"failed ({why}), and is not used any more. The search continues")

    def _failures(
        self, call: Callable[[View], None], *, passing: type[Exception] = TakenOver
    ) -> Iterator[tuple[str, str]]:
        """Apply `call` to each view; yield (name, reason) for each view that raised an error.

        Errors of the type `passing` are raised, since they concern the search or the command.
        """
        for name, view in list(self.views.items()):
            try:
                call(view)
            except passing:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a view raises, the search continues
                yield name, reason(error)

    def _tell(self, name: str, what: str) -> None:
        with suppress(OSError):  # writing to the terminal may be what failed
            say(
                self.context.console,
                f"note: {VIEWS[name].title} {what}. All results are in the journal.",
            )


def reason(error: Exception) -> str:
    """Describe a view's error; for a bug, also write the traceback to a file and name the file.

    Call it inside an `except` block, since it writes the current traceback.
    """
    if isinstance(error, OSError | Unwritten):
        return str(error)
    return f"{type(error).__name__}: {error}; {write_traceback()}"
