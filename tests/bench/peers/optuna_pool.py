"""Optuna with a pool of processes, the stock training, and plain calls to MLflow.

The processes share a journal file. They live as long as the search, so that torch is imported once
in each.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tests.bench.peers.options import Clock, options, tell, trial_config

STUDY = "peer"


def storage(out: str) -> JournalStorage:
    """Return the study's journal file."""
    return JournalStorage(JournalFileBackend(f"{out}/optuna.log"))


def one_trial(out: str, config: dict[str, Any]) -> list[dict[str, float]]:
    """Take the study's next trial, train it and record it. Returns its epochs."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    mlflow.set_tracking_uri(f"sqlite:///{out}/mlflow.db")
    mlflow.set_experiment(STUDY)
    epochs: list[dict[str, float]] = []

    def objective(trial: optuna.Trial) -> float:
        from tests.bench.peers import stock

        lr = trial.suggest_float("lr", 1e-5, 1.0, log=True)
        folder = Path(out) / f"trial-{trial.number}"
        folder.mkdir()
        with mlflow.start_run(run_name=f"trial {trial.number}"):
            mlflow.log_params({"lr": lr, **config})
            for number, (metrics, net) in enumerate(stock.epochs({**config, "lr": lr}), 1):
                mlflow.log_metrics(metrics, step=number)
                stock.save(net, folder)
                epochs.append(metrics)
        return max(epoch["accuracy"] for epoch in epochs)

    optuna.load_study(study_name=STUDY, storage=storage(out)).optimize(objective, n_trials=1)
    return epochs


def search(args: argparse.Namespace) -> list[dict[str, float]]:
    """Train with all learning rates, in the order given."""
    out = str(args.out)
    mlflow.set_tracking_uri(f"sqlite:///{out}/mlflow.db")
    mlflow.set_experiment(STUDY)
    study = optuna.create_study(study_name=STUDY, storage=storage(out), direction="maximize")
    for lr in args.lrs:
        study.enqueue_trial({"lr": lr})
    with ProcessPoolExecutor(args.slots) as pool:
        futures = [pool.submit(one_trial, out, trial_config(args)) for _ in args.lrs]
        return [epoch for future in futures for epoch in future.result()]


def main() -> None:
    """Search, print."""
    args = options(__doc__)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    clock = Clock(time.time())
    epochs = search(args)
    clock.fit_s = clock.lap()
    tell(clock, epochs, len(args.lrs))


if __name__ == "__main__":
    main()
