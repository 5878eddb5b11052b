"""Ray Tune's own ASHAScheduler, grace 1 and reduction 4 as by default, with our training.

It searches the grid of `mnist_64`, of 16 epochs at most, in an order that `--seed` gives.
"""

import random
from pathlib import Path

from ray.tune.schedulers import ASHAScheduler

from tests.bench.mnist_64 import space
from tests.bench.peers.options import options
from tests.bench.peers.tune_fast import search
from trainables.config import TrialConfig


def main() -> None:
    """Search, print."""
    args = options(__doc__)
    root = str(Path(args.data_root).absolute())
    base = TrialConfig().override({"data.name": "mnist", "data.root": root, **space.base})
    points = list(space.points())
    random.Random(args.seed).shuffle(points)
    rule = ASHAScheduler(metric="val/accuracy", mode="max", max_t=base.epochs)
    search(args, base, points, scheduler=rule)


if __name__ == "__main__":
    main()
