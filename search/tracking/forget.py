"""Removal of a search's traces from MLflow.

Deleted runs are kept by MLflow until `mlflow gc`. Versions of registered models stay: each has a
copy of its model.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster.errors import NotReady
from cluster.secrets import redact
from search.journal.events import Started
from search.tracking.client import client_of, sqlite_path
from search.tracking.runs import elsewhere, experiment_title
from search.tracking.tracker import troubles

if TYPE_CHECKING:
    from mlflow import MlflowClient

PAGE = 1000
"""The most runs, or versions, in one answer of MLflow's."""


@dataclass(frozen=True)
class Traces:
    """A search in MLflow."""

    uri: str
    runs: tuple[str, ...] = ()
    """The ids of its runs that are not deleted yet."""
    versions: tuple[str, ...] = ()
    """The versions of registered models that come from it, such as `models:/flowers/2`."""


def traces_of(facts: Started, uri: str) -> Traces:
    """Return what MLflow has of the search with this first event.

    Raises:
        NotReady: MLflow is in trouble.
    """
    if uri.startswith("sqlite:///") and not sqlite_path(uri).exists():
        return Traces(uri)
    try:
        return Traces(uri, *_found(facts, uri))
    except troubles() as error:
        raise _trouble(uri, error) from error


def _found(facts: Started, uri: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    client, ours = client_of(uri), f"`search.id` = '{facts.id}'"
    runs = _runs_in(client, client.get_experiment_by_name(experiment_title(facts)), ours)
    runs = runs or _runs_in(client, elsewhere(client, facts.id), ours)
    versions = client.search_model_versions(f"tag.{ours}", max_results=PAGE)
    return runs, tuple(f"models:/{one.name}/{one.version}" for one in versions)


def _runs_in(client: "MlflowClient", experiment: Any, ours: str) -> tuple[str, ...]:
    """Return the ids of a search's runs in an experiment; none where there is no experiment."""
    found: list[str] = []
    token: str | None = "" if experiment is None else None
    while token != "":
        page = client.search_runs(
            [experiment.experiment_id], f"tags.{ours}", max_results=PAGE, page_token=token
        )
        found += [run.info.run_id for run in page]
        token = page.token or ""
    return tuple(found)


def forget(traces: Traces) -> None:
    """Delete these runs, as MLflow deletes: `mlflow gc` removes them for good.

    Raises:
        NotReady: MLflow is in trouble; the runs before it are deleted.
    """
    try:
        client = client_of(traces.uri)
        for run in traces.runs:
            client.delete_run(run)
    except troubles() as error:
        raise _trouble(traces.uri, error) from error


def _trouble(uri: str, error: Exception) -> NotReady:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return NotReady(
        f"MLflow ({redact(uri)}) does not answer as it should ({redact(reason)[:300]}). Try again "
        "later, or leave its runs with --keep-runs."
    )
