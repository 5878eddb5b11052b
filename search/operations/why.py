"""The history of one trial."""

from collections.abc import Sequence
from dataclasses import dataclass

from search.journal.journal import FILE_NAME, Event, read
from search.journal.result import SearchResult
from search.operations.options import SearchRequest
from search.values.option import positional
from trainables.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class WhyRequest(SearchRequest):
    """The trial whose history is read."""

    trial: str = positional("the trial, such as t0001", metavar="TRIAL")


@dataclass(frozen=True, kw_only=True)
class Story:
    """A trial, with the events and the result of its search."""

    trial: str
    events: Sequence[Event]
    """All events of the search."""
    result: SearchResult


def why(request: WhyRequest) -> Story:
    """Read the events that make up the history of a trial.

    Raises:
        NoSuchSearch: there is no such search.
        ConfigError: there is no such trial.
    """
    folder = request.home().opened()
    events = read(folder / FILE_NAME)
    result = SearchResult.of(events, folder)
    if result.find(request.trial) is None:
        names = list(result.trials)
        raise ConfigError(
            f"no trial '{request.trial}' in {request.name}"
            + (f", which has {names[0]} to {names[-1]}." if names else ", which has none yet.")
        )
    return Story(trial=request.trial, events=events, result=result)
