"""Optuna under Ray Tune with early stopping, as documented.

`OptunaSearch` and `ASHAScheduler` with their defaults, on the space of the paper's Table III and
this project's training. Ends once the target is reached, or after so many epochs; prints when that
was.
"""

import json
import time
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from search.spaces.table3 import space
from tests.bench.peers.options import options
from tests.bench.peers.tune import fit, start
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.datasets.load import load


def trainable(config: dict[str, Any], *, base: TrialConfig, dataset: Dataset) -> None:
    """Train one trial; its checkpoints are our own."""
    from trainables.training.process import prepare
    from trainables.trial import run_trial

    prepare(1)
    folder = Path(tune.get_context().get_trial_dir()) / "ours"
    for report in run_trial(base.override(config), dataset, folder):
        if report.metrics:
            tune.report({**report.metrics, "accuracy": report.metrics["val/accuracy"]})


class Reached(tune.Stopper):
    """A stopper that ends everything at the target, or after `most` epochs."""

    def __init__(self, target: float, most: int) -> None:
        self.target, self.most = target, most
        self.epochs, self.best, self.at = 0, 0.0, 0.0

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Count an epoch."""
        if not self.at:
            self.epochs, self.best = self.epochs + 1, max(self.best, result["accuracy"])
            self.at = time.time() if self.best >= self.target else 0.0
        return False

    def stop_all(self) -> bool:
        """Return whether it is over."""
        return bool(self.at) or self.epochs >= self.most


def main() -> None:
    """Search, print."""
    began, args = time.time(), options(__doc__)
    table3 = space()
    base = TrialConfig().override({**table3.base, "seed": 0, "data.split_seed": 0})
    clock, reached = start(args), Reached(args.target, args.most)
    fit(
        tune.with_parameters(trainable, base=base, dataset=load(base.data).sealed),
        {path: tune.choice(list(domain.options)) for path, domain in table3.domains.items()},
        args,
        clock,
        samples=args.trials,
        stop=reached,
        search_alg=OptunaSearch(metric="accuracy", mode="max", seed=args.seed),
        scheduler=ASHAScheduler(metric="accuracy", mode="max", max_t=30),
    )
    print(
        json.dumps(
            {
                "epochs": reached.epochs,
                "best": reached.best,
                "seconds": reached.at - began if reached.at else None,
            }
        )
    )


if __name__ == "__main__":
    main()
