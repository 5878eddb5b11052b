"""The history of one trial."""

from collections.abc import Sequence
from dataclasses import dataclass

from search.facts.history import History
from search.journal.journal import FILE_NAME, Event, events_of, without_garbage_collection
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
    """The history of a trial, and the result of its search."""

    trial: str
    events: Sequence[Event]
    """The events of the trial, and those that concern no trial."""
    history: History
    """The facts about the other trials at these events."""
    result: SearchResult


def why(request: WhyRequest) -> Story:
    """Read the events that make up the history of a trial.

    Raises:
        NoSuchSearch: there is no such search.
        ConfigError: there is no such trial.
    """
    folder = request.home().opened()
    events, history = [], History()

    def noted(result: SearchResult, event: Event) -> None:
        history.apply(event, result)
        if event.trial in ("", request.trial):
            events.append(event)

    with without_garbage_collection():
        result = SearchResult.of(events_of(folder / FILE_NAME), folder, after=noted)
    if result.find(request.trial) is None:
        names = list(result.trials)
        raise ConfigError(
            f"no trial '{request.trial}' in {request.name}"
            + (f", which has {names[0]} to {names[-1]}." if names else ", which has none yet.")
        )
    return Story(trial=request.trial, events=events, history=history, result=result)
