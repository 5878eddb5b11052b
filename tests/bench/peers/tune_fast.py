"""Ray Tune's function API with this project's training, the data once in Ray's object store.

`--reuse` keeps the actors.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from ray import tune

from tests.bench.peers.options import options, tell
from tests.bench.peers.tune import epochs_of, fit, start
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.datasets.load import load


def trainable(config: dict[str, Any], *, base: TrialConfig, dataset: Dataset) -> None:
    """Train one trial; its checkpoints are our own."""
    from trainables.training.process import prepare
    from trainables.trial import run_trial

    prepare(1)
    folder = Path(tune.get_context().get_trial_dir()) / "ours"
    for report in run_trial(base.override(config["point"]), dataset, folder):
        if report.metrics:
            tune.report({**report.metrics, "began": time.time() - report.metrics["time/epoch_s"]})


def search(
    args: argparse.Namespace, base: TrialConfig, points: list[dict[str, Any]], **choosing: Any
) -> None:
    """Train each of these points, and print; `choosing` is for `TuneConfig`."""
    dataset = load(base.data).sealed
    clock = start(args)
    ready = tune.with_parameters(trainable, base=base, dataset=dataset)
    results = fit(ready, {"point": tune.grid_search(points)}, args, clock, **choosing)
    tell(
        clock,
        epochs_of(
            results, {"epoch_s": "time/epoch_s", "accuracy": "val/accuracy", "began": "began"}
        ),
        len(results),
    )


def main() -> None:
    """Search, print."""
    args = options(__doc__)
    base = TrialConfig().override(
        {
            "model.name": "table2",
            "model.width": 32,
            "data.name": "mnist",
            "data.root": str(Path(args.data_root).absolute()),
            "data.train_limit": args.train_limit,
            "data.val_limit": args.val_limit,
            "data.split_seed": args.seed,
            "seed": args.seed,
            "epochs": args.epochs,
            "batch_size": args.batch,
        }
    )
    search(args, base, [{"optimizer.lr": lr} for lr in args.lrs])


if __name__ == "__main__":
    main()
