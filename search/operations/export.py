"""The trials of a search as a table."""

from dataclasses import dataclass

from search.facts.trials import TrialTable, trial_table
from search.journal.result import SearchResult
from search.operations.options import SearchRequest


@dataclass(frozen=True, kw_only=True)
class ExportRequest(SearchRequest):
    """A search whose trials are exported."""


def export(request: ExportRequest) -> TrialTable:
    """Build the table of a search's trials.

    Raises:
        NoSuchSearch: there is no such search.
    """
    result, _ = SearchResult.kept_in(request.home())
    return trial_table(result)
