"""The current state of a search."""

from dataclasses import dataclass

from search.facts.standing import SearchStanding
from search.operations.options import SearchRequest


@dataclass(frozen=True, kw_only=True)
class StatusRequest(SearchRequest):
    """The search to report on."""


def status(request: StatusRequest) -> SearchStanding:
    """Read the current state of a search.

    Raises:
        NoSuchSearch: there is no such search.
    """
    return SearchStanding.read(request.name, request.home(), request.storage)
