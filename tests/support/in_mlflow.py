"""A search's runs in MLflow."""

from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from search.tracking.tracker import Tracker


def runs(uri: str, tracker: Tracker) -> tuple[Run, list[Run]]:
    client = MlflowClient(uri)
    children = client.search_runs(
        [tracker.experiment_id],
        f"tags.mlflow.parentRunId = '{tracker.parent_run_id}'",
        max_results=1000,
    )
    return client.get_run(tracker.parent_run_id), list(children)


def contents(uri: str, tracker: Tracker) -> list[tuple[Any, ...]]:
    """Everything that a search has in MLflow: status, tags, params and every point of every metric,
    in all its runs.
    """
    client, found = MlflowClient(uri), []
    for run in client.search_runs(
        [tracker.experiment_id], run_view_type=ViewType.ALL, max_results=1000
    ):
        points = {
            name: [
                (point.step, point.timestamp, point.value)
                for point in client.get_metric_history(run.info.run_id, name)
            ]
            for name in run.data.metrics
        }
        tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.runName"}
        found.append(
            (
                run.info.run_id,
                run.info.status,
                run.info.lifecycle_stage,
                sorted(tags.items()),
                sorted(run.data.params.items()),
                sorted(points.items()),
            )
        )
    return sorted(found)
