"""Compares searches: their results, and the values in which they differ."""

from dataclasses import dataclass

from search.facts.comparison import Compared, compare_searches
from search.journal.naming import resolve_name
from search.journal.result import SearchResult
from search.journal.store import Storage, home
from search.operations.options import storage_option
from search.values.message import Message, Remedy, Start
from search.values.option import positional
from trainables.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """The searches to compare."""

    names: tuple[str, ...] = positional("the names of searches", metavar="NAME", nargs="+")
    storage: Storage = storage_option()


@dataclass(frozen=True)
class ComparedSearches:
    """A comparison of searches, and the results on which it is based."""

    comparison: Compared
    results: list[SearchResult]


def compare(request: CompareRequest) -> ComparedSearches:
    """Compare two or more searches.

    Raises:
        NoSuchSearch: one of them does not exist.
        ConfigError: fewer than two searches are named, or one is named twice.
    """
    names = [resolve_name(name, request.storage) for name in request.names]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise ConfigError(
            Message(
                "pass the names of at least two searches, each name only once (got "
                f"{', '.join(names)}). To list the searches: ",
                Remedy("list", start=Start.ANYWHERE),
            )
        )
    results = [SearchResult.kept_in(home(request.storage, name))[0] for name in names]
    return ComparedSearches(compare_searches(results), results)
