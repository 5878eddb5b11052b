"""Removal of a search's traces from MLflow.

MLflow keeps deleted runs until `mlflow gc`. Versions of registered models are not removed, since
each has its own copy of the model.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster.errors import NotReady
from cluster.secrets import redact
from search.journal.events import Started
from search.tracking.client import client_of, sqlite_path
from search.tracking.runs import experiment_title, find_experiment
from search.tracking.tracker import troubles

if TYPE_CHECKING:
    from mlflow import MlflowClient

PAGE = 1000
"""The maximum number of runs, or of model versions, in one response of MLflow."""


@dataclass(frozen=True)
class Traces:
    """The runs of a search in MLflow, and the model versions that come from it."""

    uri: str
    runs: tuple[str, ...] = ()
    """The ids of the search's runs that are not deleted."""
    versions: tuple[str, ...] = ()
    """The addresses of the model versions, such as `models:/flowers/2`."""


def traces_of(facts: Started, uri: str) -> Traces:
    """Find the runs and model versions of the search with this first event.

    Raises:
        NotReady: MLflow fails.
    """
    if uri.startswith("sqlite:///") and not sqlite_path(uri).exists():
        return Traces(uri)
    try:
        return Traces(uri, *_find_traces(facts, uri))
    except troubles() as error:
        raise _trouble(uri, error) from error


def _find_traces(facts: Started, uri: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    client, condition = client_of(uri), f"`search.id` = '{facts.id}'"
    runs = _run_ids_in(client, client.get_experiment_by_name(experiment_title(facts)), condition)
    runs = runs or _run_ids_in(client, find_experiment(client, facts.id), condition)
    versions = client.search_model_versions(f"tag.{condition}", max_results=PAGE)
    return runs, tuple(f"models:/{version.name}/{version.version}" for version in versions)


def _run_ids_in(client: "MlflowClient", experiment: Any, condition: str) -> tuple[str, ...]:
    """Return the ids of an experiment's runs that fulfil a condition.

    The result is empty if `experiment` is None.
    """
    run_ids: list[str] = []
    token: str | None = "" if experiment is None else None
    while token != "":
        page = client.search_runs(
            [experiment.experiment_id], f"tags.{condition}", max_results=PAGE, page_token=token
        )
        run_ids += [run.info.run_id for run in page]
        token = page.token or ""
    return tuple(run_ids)


def forget(traces: Traces) -> None:
    """Mark the runs as deleted; `mlflow gc` removes them.

    Raises:
        NotReady: MLflow fails; some of the runs may be deleted.
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
        f"MLflow ({redact(uri)}) reported an error ({redact(reason)[:300]}). Try again later, or "
        "keep its runs with --keep-runs."
    )
