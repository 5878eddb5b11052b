"""A careful user's script after Ray's documentation.

It uses Tuner, ASHA, checkpoints, FailureConfig, MLflowLoggerCallback and Tuner.restore.

    python tests/faults/tutorial.py FOLDER TRACKING_URI

It trains the same networks on the same digits as `tiny.py`, started again after each crash it
restores, and tells the same truth, so that `soak.py --peer` can do to it what it does to this
project. Nothing in here is ours but the network, the data and the line of truth.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from ray import init, tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import FIFOScheduler
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn import functional

EPOCHS = 3


def tell(trial: str, epoch: int, accuracy: float) -> None:
    """The same line of truth as `inject/sitecustomize.py` writes."""
    facts = {
        "trial": trial,
        "pid": os.getpid(),
        "born": int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]),
        "time_ns": time.time_ns(),
        "epoch": epoch,
        "diverged": False,
        "val_accuracy": accuracy,
    }
    with (Path(os.environ["FAULTS_DIR"]) / "truth.jsonl").open("a") as file:
        file.write(json.dumps(facts) + "\n")
        file.flush()
        os.fsync(file.fileno())


def train(config: dict[str, Any]) -> None:
    """One trial, with a checkpoint an epoch and a start from the newest one."""
    from trainables.catalog.models import MODELS

    torch.set_num_threads(1)
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    rows = train_test_split(range(len(images)), test_size=0.2, random_state=0)
    (x, y), (x_val, y_val) = ((images[part], torch.tensor(digits.target[part])) for part in rows)
    network = MODELS["deep_cnn"].build((1, 8, 8), 10, **MODELS["deep_cnn"].options | {"layers": 5})
    optimizer = torch.optim.Adam(network.parameters(), lr=config["lr"])
    start = 0
    if (checkpoint := tune.get_checkpoint()) is not None:
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / "state.pt", weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["epoch"]
    for epoch in range(start + 1, EPOCHS + 1):
        time.sleep(config["pause"])
        network.train()
        for batch in torch.randperm(len(x)).split(config["batch_size"]):
            loss = functional.cross_entropy(network(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            accuracy = (network(x_val).argmax(1) == y_val).float().mean().item()
        tell(tune.get_context().get_trial_id(), epoch, accuracy)
        with tempfile.TemporaryDirectory() as folder:
            torch.save(
                {
                    "network": network.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "epoch": epoch,
                },
                Path(folder) / "state.pt",
            )
            metrics = {"val_accuracy": accuracy, "train_loss": loss.item(), "epoch": epoch}
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


def main(folder: Path, tracking: str) -> None:
    """Start the search, or restore it when there is one."""
    init(address="local", num_cpus=2, include_dashboard=False)
    trainable = tune.with_resources(train, {"cpu": 1})
    if tune.Tuner.can_restore(str(folder / "peer")):
        tuner = tune.Tuner.restore(
            str(folder / "peer"),
            trainable=trainable,
            resume_unfinished=True,
            restart_errored=False,
            resume_errored=True,
        )
    else:
        tuner = tune.Tuner(
            trainable,
            param_space={
                "lr": tune.grid_search([0.001, 0.003, 0.01]),
                "batch_size": tune.grid_search([32, 64, 128]),
                "pause": float(os.environ.get("PAUSE_S", "0")),
            },
            tune_config=tune.TuneConfig(
                metric="val_accuracy",
                mode="max",
                scheduler=FIFOScheduler(),
                max_concurrent_trials=2,
            ),
            run_config=tune.RunConfig(
                name="peer",
                storage_path=str(folder),
                failure_config=tune.FailureConfig(max_failures=3),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
                callbacks=[
                    MLflowLoggerCallback(
                        tracking_uri=tracking, experiment_name="peer", tags={"search.name": "peer"}
                    )
                ],
            ),
        )
    results = tuner.fit()
    print("best", results.get_best_result().metrics["val_accuracy"], "errors", results.num_errors)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
