"""Trials that only report once, under Ray Tune's function API with MLflow's callback.

`--reuse` keeps the actors.
"""

from typing import Any

from ray import tune

from tests.bench.peers.options import options, tell
from tests.bench.peers.tune import fit, start


def trainable(config: dict[str, Any]) -> None:
    """Report once."""
    tune.report({"accuracy": config["lr"]})


def main() -> None:
    """Search, print."""
    args = options(__doc__)
    clock = start(args)
    results = fit(trainable, {"lr": tune.loguniform(1e-4, 1e-1)}, args, clock, samples=args.trials)
    tell(clock, [], len(results))


if __name__ == "__main__":
    main()
