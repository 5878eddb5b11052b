"""The options that all peers take, and the line that they print."""

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def options(about: str | None) -> argparse.Namespace:
    """Read the command line. `--out` becomes a scratch folder if it is not given."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data-root", default="data", help="where torchvision's MNIST lies")
    parser.add_argument(
        "--rows",
        help=(
            "an .npz file with the numbers of the images to train on (train) and to validate "
            "with (val)"
        ),
    )
    parser.add_argument(
        "--lrs",
        type=float,
        nargs="+",
        default=[1e-3],
        help="a trial for each of these learning rates",
    )
    parser.add_argument("--slots", type=int, default=2, help="trials at once, a CPU each")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=20, help="of tune_noop and tune_optuna")
    parser.add_argument("--reuse", action="store_true", help="Tune's reuse_actors=True")
    parser.add_argument(
        "--train-limit", type=int, default=4000, help="of tune_fast, which splits the data itself"
    )
    parser.add_argument("--val-limit", type=int, default=2000, help="of tune_fast")
    parser.add_argument(
        "--target",
        type=float,
        default=1.0,
        help="of tune_optuna: the validation accuracy at which it ends",
    )
    parser.add_argument(
        "--most", type=int, default=1000, help="of tune_optuna: the epochs after which it ends"
    )
    parser.add_argument("--out", type=Path, help="a folder for what the search writes")
    args = parser.parse_args()
    args.out = (args.out or Path(tempfile.mkdtemp())).absolute()
    args.out.mkdir(parents=True, exist_ok=True)
    return args


def trial_config(args: argparse.Namespace) -> dict[str, Any]:
    """Return what is the same for all trials of the stock training."""
    return {
        "data_root": str(Path(args.data_root).absolute()),
        "rows": args.rows,
        "epochs": args.epochs,
        "batch": args.batch,
        "seed": args.seed,
    }


@dataclass
class Clock:
    """Seconds of a search's parts."""

    began: float
    init_s: float = 0.0
    fit_s: float = 0.0

    def lap(self) -> float:
        """Return the seconds since the last lap."""
        now = time.time()
        seconds, self.began = now - self.began, now
        return seconds


def tell(clock: Clock, epochs: list[dict[str, float]], trials: int) -> None:
    """Print the JSON line. Each epoch has `epoch_s`, `accuracy` and `began`."""
    print(
        json.dumps(
            {
                "init_s": clock.init_s,
                "fit_s": clock.fit_s,
                "pure_s": sum(epoch["epoch_s"] for epoch in epochs),
                "trials": trials,
                "epochs": len(epochs),
                "best": max((epoch["accuracy"] for epoch in epochs), default=None),
                "first_step_at": min((epoch["began"] for epoch in epochs), default=None),
            }
        ),
        flush=True,
    )
