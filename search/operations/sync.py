"""Completes MLflow's record of a search, from the search's journal."""

from dataclasses import dataclass

from cluster.errors import NotReady
from cluster.secrets import redact
from search.journal.journal import FILE_NAME, Tail
from search.journal.result import SearchResult
from search.operations.options import SearchRequest
from search.process.versions import check_versions
from search.tracking.runs import Runs
from search.tracking.tracker import troubles
from search.tracking.uri import check_tracking, uri_of
from search.values.option import option


@dataclass(frozen=True, kw_only=True)
class SyncRequest(SearchRequest):
    """A search, and the MLflow server or database to which it is written."""

    tracking: str | None = option(
        "MLflow's tracking URI (default: the search's own)", metavar="URI"
    )


@dataclass(frozen=True, kw_only=True)
class Synced:
    """The numbers of trials and epochs of a search, all of which MLflow has now."""

    name: str
    trials: int
    epochs: int
    uri: str
    """MLflow's tracking URI."""


def sync(request: SyncRequest) -> Synced:
    """Write the results that MLflow lacks to MLflow; they are read from the search's journal.

    Raises:
        NoSuchSearch: there is no such search.
        LeaseHeld: a driver runs the search.
        NotReady: MLflow fails or rejects a result.
    """
    home = request.home()
    result = SearchResult.read(home.opened())
    uri = uri_of(result, request.tracking)
    check_versions()
    check_tracking(uri)
    with home.lease():
        folder = home.opened(files=True)
        try:
            runs = Runs(uri, folder)
            runs.project(Tail(folder / FILE_NAME).new())
            runs.leave(result.current_sessions[-1].last_ms)
        except troubles() as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise NotReady(
                f"MLflow did not accept everything ({redact(reason)}). Try again later. Nothing "
                f"is lost: {home}/{FILE_NAME} contains everything."
            ) from error
    return Synced(
        name=result.name, trials=len(result.trials), epochs=result.epochs_trained, uri=uri
    )
