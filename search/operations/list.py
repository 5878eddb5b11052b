"""Lists all searches in a storage."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cluster.storage.bucket import AT_ONCE
from search.facts.overview import Overview, Overviews
from search.journal.store import Storage, searches_in
from search.operations.options import storage_option


@dataclass(frozen=True, kw_only=True)
class ListRequest:
    """The storage whose searches are listed."""

    storage: Storage = storage_option()


def list_searches(request: ListRequest, cache: Overviews | None = None) -> list[Overview]:
    """Read an overview of each search in a storage: the newest first, broken ones last.

    Args:
        request: the storage.
        cache: stores the overviews between the calls of a caller that lists repeatedly; None to
            read all searches.
    """
    place = request.storage
    cache, names = cache or Overviews(place), searches_in(place)
    cache.keep(names)
    if isinstance(place, Path):  # parsing is CPU-bound, so threads would not help
        overviews = [cache.of(name) for name in names]
    else:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            overviews = list(pool.map(cache.of, names))
    return sorted(overviews, key=lambda overview: (-overview.began_ms, overview.name))
