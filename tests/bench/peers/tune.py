"""A search with Ray Tune's function API and MLflow's callback, as documented.

The three Tune peers share it.
"""

import argparse
import logging
import time
from collections.abc import Callable
from typing import Any

import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback

from tests.bench.peers.options import Clock


def start(args: argparse.Namespace) -> Clock:
    """Start a local Ray of its own."""
    clock = Clock(time.time())
    ray.init(
        num_cpus=args.slots,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    clock.init_s = clock.lap()
    return clock


def fit(
    trainable: Callable[..., None],
    space: dict[str, Any],
    args: argparse.Namespace,
    clock: Clock,
    *,
    samples: int = 1,
    stop: tune.Stopper | None = None,
    **choosing: Any,
) -> tune.ResultGrid:
    """Run all trials, or until `stop`; `choosing` is for `TuneConfig`.

    `clock.fit_s` is the seconds of `Tuner.fit` alone.
    """
    tracking = MLflowLoggerCallback(
        tracking_uri=f"sqlite:///{args.out}/mlflow.db", experiment_name="peer", save_artifact=False
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(num_samples=samples, reuse_actors=args.reuse, **choosing),
        run_config=tune.RunConfig(
            storage_path=str(args.out / "tune"), verbose=0, callbacks=[tracking], stop=stop
        ),
    )
    clock.lap()
    results = tuner.fit()
    clock.fit_s = clock.lap()
    return results


def epochs_of(results: tune.ResultGrid, names: dict[str, str]) -> list[dict[str, float]]:
    """Return every epoch of every trial, its metrics under our names: {ours: theirs}."""
    found = []
    for result in results:
        frame = result.metrics_dataframe
        if frame is not None:
            found += [
                {ours: float(row[theirs]) for ours, theirs in names.items()}
                for _, row in frame.iterrows()
            ]
    return found
