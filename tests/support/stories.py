"""The story of a trial, from all events of its search."""

from collections.abc import Iterator, Sequence

from search.facts.history import History
from search.journal.journal import Event
from search.journal.result import SearchResult
from search.views.text.story import story_of


def story_lines(events: Sequence[Event], trial: str) -> Iterator[str]:
    """Describe a trial's events as lines."""
    history, result = History(), SearchResult()
    for event in events:
        result.apply(event)
        history.apply(event, result)
    return story_of(events, trial, history)
