"""Monitoring of model versions in MLflow, with one run per version.

The run is in the MLflow experiment of the search that the version comes from.
"""

import time
from collections.abc import Mapping

from cluster.errors import NotReady
from cluster.secrets import redact
from search.tracking.client import client_of
from search.tracking.model_registry import ADDRESS, version_at
from search.tracking.tracker import troubles
from trainables.errors import ConfigError

ROLE, MODEL = "search.role", "monitor.model"


def log_monitoring(uri: str, tracking: str, figures: Mapping[str, float]) -> str:
    """Log figures to the monitoring run of a model version, and return the run's id.

    The run is created if necessary. Each call adds a point to its curves; the step is the Unix time
    in seconds.

    Args:
        uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        tracking: MLflow's tracking URI.
        figures: the values by name.

    Raises:
        ConfigError: `uri` is not the address of a registered model, or there is no such version.
        NotReady: MLflow fails.
    """
    address = ADDRESS.fullmatch(uri)
    if address is None:
        raise ConfigError(
            f"--track requires a registered model (got '{redact(uri)[:200]}'), because it writes "
            "to the MLflow experiment of the model's search. Use models:/NAME@ALIAS or "
            "models:/NAME/VERSION."
        )
    name, version = address["name"], version_at(uri, tracking)
    from mlflow.entities import Metric

    try:
        client = client_of(tracking)
        source = client.get_model_version(name, version).run_id
        experiment = client.get_run(str(source)).info.experiment_id
        condition = f"tags.`{MODEL}` = '{name}/{version}'"
        runs = client.search_runs([experiment], condition, max_results=1)
        run = (
            runs[0]
            if runs
            else client.create_run(
                experiment,
                tags={ROLE: "monitor", MODEL: f"{name}/{version}"},
                run_name=f"monitor {name} {version}",
            )
        ).info.run_id
        now = time.time_ns() // 1_000_000
        client.log_batch(
            run, metrics=[Metric(key, value, now, now // 1000) for key, value in figures.items()]
        )
        client.set_terminated(run)
        return str(run)
    except troubles() as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise NotReady(
            f"MLflow ({redact(tracking)}) did not accept the metrics ({redact(reason)[:300]}). "
            "Try again later."
        ) from error
