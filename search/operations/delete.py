"""Deletes a search, its checkpoints and its runs in MLflow."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.storage.bucket import AT_ONCE
from search.design.experiment import NAME
from search.journal.journal import FILE_NAME, JournalError
from search.journal.result import SearchResult
from search.journal.store import Storage, home, searches_in
from search.operations.deletion import Deletion, DependentSearch
from search.operations.options import SearchRequest
from search.operations.talk import SILENT, Talk
from search.process.versions import check_versions
from search.tracking.forget import forget, traces_of
from search.tracking.uri import uri_of
from search.values.message import Message, Remedy, Start
from search.values.option import flag, option
from trainables.disk import read_regular
from trainables.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DeleteRequest(SearchRequest):
    """The search to delete."""

    keep_runs: bool = flag("keep the runs of the search in MLflow")
    tracking: str | None = option(
        "MLflow's tracking URI (default: the search's own)", metavar="URI"
    )


def delete(
    request: DeleteRequest,
    *,
    confirm: Callable[[Deletion], bool] = lambda deletion: True,
    talk: Talk = SILENT,
) -> Deletion | None:
    """Delete a search, its checkpoints and its runs in MLflow.

    The runs are deleted first: if this fails (`NotReady`), the search still exists.

    Args:
        request: the search.
        confirm: called with everything that will be deleted; returns False to delete nothing. No
            driver can start during this call.
        talk: receives a note if the lock of a dead driver is taken over.

    Returns:
        Everything that was deleted; None if `confirm` returned False.

    Raises:
        ConfigError: the name is not a valid name of a search.
        NoSuchSearch, JournalError: there is no such search.
        LeaseHeld: a driver runs the search.
    """
    name = request.name.rstrip("/")
    if not NAME.fullmatch(name):
        raise ConfigError(
            Message(
                f"'{name[:80]}' cannot be the name of a search. To list the searches: ",
                Remedy("list", start=Start.ANYWHERE),
            )
        )
    request = replace(request, name=name)
    search_home = request.home()
    if not search_home.names():
        raise JournalError(f"there is no search at '{search_home}'. Check the name and --storage.")
    with search_home.lease(say=talk.note):
        deletion = deletion_of(request)
        if not confirm(deletion):
            return None
        if deletion.traces is not None:
            forget(deletion.traces)
        search_home.remove()
    return deletion


def deletion_of(request: DeleteRequest) -> Deletion:
    """Collect everything that the deletion of a search would remove or affect."""
    search_home, traces = home(request.storage, request.name), None
    with suppress(JournalError):
        result = SearchResult.read(search_home.opened())
        if not request.keep_runs:
            check_versions()
            traces = traces_of(result.started, uri_of(result, request.tracking))
    return Deletion(
        request.name,
        str(search_home),
        search_home.size(),
        traces,
        tuple(uses_of(request.storage, request.name)),
    )


def uses_of(place: Storage, name: str) -> Iterator[DependentSearch]:
    """Yield the other searches in a storage that have used trainings or weights of this search.

    Searches whose journals cannot be read are skipped.
    """
    restored_pattern = re.compile(
        rb'"event": "restored", "trial": "([^"]+)".*"begun": \{"search": "%s"'
        % re.escape(name).encode()
    )
    folder = (
        json.dumps(f"{(place / name).absolute()}/")[1:-1].encode()
        if isinstance(place, Path)
        else None
    )

    def use_by(other_name: str) -> DependentSearch:
        with suppress(JournalError, OSError):
            content = read_regular(home(place, other_name).opened() / FILE_NAME)
            first = content.partition(b"\n")[0]
            return DependentSearch(
                other_name,
                len(set(restored_pattern.findall(content))),
                folder is not None and folder in first,
            )
        return DependentSearch(other_name, 0, needs_weights=False)

    other_names = [other_name for other_name in searches_in(place) if other_name != name]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from (use for use in pool.map(use_by, other_names) if use.trials or use.needs_weights)
