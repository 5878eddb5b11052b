"""A view that a user might add: the state of a search as a JSON file, for another program."""

import json

from search.journal.journal import Event
from search.views.base import Finished, View, ViewContext

FILE_NAME = "status.json"


class StatusFile(View):
    """Writes the file anew with each event, and with the result."""

    def __init__(self, shown: ViewContext) -> None:
        assert shown.driver is not None
        self.folder, self.kinds = shown.driver.experiment.folder, list[str]()

    def apply(self, event: Event) -> None:
        """Write how far the search is."""
        self.kinds.append(event.kind)
        self._write(result=None)

    def render(self, finished: Finished) -> None:
        """Write the best trial and the end."""
        best = finished.result.best
        self._write(result=[finished.result.outcome, best.trial if best is not None else None])

    def _write(self, **state: object) -> None:
        (self.folder / FILE_NAME).write_text(json.dumps({"kinds": self.kinds, **state}))
