"""Ray Tune as documented, with the stock training.

A checkpoint an epoch, MLflow by Tune's callback. `--reuse` keeps the actors.
"""

import tempfile
from typing import Any

from ray import tune

from tests.bench.peers.options import options, tell, trial_config
from tests.bench.peers.tune import epochs_of, fit, start


def trainable(config: dict[str, Any]) -> None:
    """Train one trial."""
    from tests.bench.peers import stock

    for metrics, net in stock.epochs(config):
        with tempfile.TemporaryDirectory() as folder:
            stock.save(net, folder)
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


def main() -> None:
    """Search, print."""
    args = options(__doc__)
    clock = start(args)
    results = fit(trainable, {"lr": tune.grid_search(args.lrs), **trial_config(args)}, args, clock)
    tell(
        clock,
        epochs_of(results, {name: name for name in ("epoch_s", "accuracy", "began")}),
        len(results),
    )


if __name__ == "__main__":
    main()
