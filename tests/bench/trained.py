"""Real searches of four tasks, and networks trained as one, as lines: two versions on one machine.

    python -m tests.bench.trained > FOLDER/now.txt
    python -m tests.bench.trained --checkout OTHER > FOLDER/before.txt
    diff FOLDER/before.txt FOLDER/now.txt

With `--concurrency 1` and one seed a search comes to the same journal, metrics to the last digit.
Left out is what may differ without a difference in result: times, hosts, ids, provenance, measured
costs and texts. The rounds of a real search's fused networks form by the clock, so fused networks
are trained by themselves, with fixed members.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

OMITTED = {
    "crc", "n", "id", "time_ms", "began_ms", "host", "pid", "node", "provenance", "reason", "text",
    "elapsed_ms", "driver", "boot", "zero_ms", "cost",
    "version", "began", "training", "training_fingerprint", "time/epoch_s", "slots", "experiment",
    "age_s", "took_s", "start_s", "tracking", "packing", "threads", "device", "wall_s", "at",
    "ms_per_image", "latency", "remarks", "gpu", "memory",
}  # fmt: skip
COMMON = ("--concurrency", "1", "--seed", "3", "--device", "cpu", "--fuse", "off", "--no-cache")
TABLE3 = ("run", "--space", "table3", "--scheduler", "asha", "--max-epochs")
SHORT = ("--max-epochs", "2", "--algorithm", "random", "--trials")
CASES: dict[str, tuple[tuple[str, ...], ...]] = {
    "grid": ((*TABLE3, "3", "--algorithm", "grid", "--trials", "5"),),
    "random": (
        (*TABLE3, "8", "--algorithm", "random", "--trials", "8"),
        ("select", "random", "--top", "2", "--seeds", "2"),
        ("refine", "random", "--rounds", "1", "--trials", "3"),
    ),
    "bayes": ((*TABLE3, "6", "--algorithm", "bayes", "--trials", "14"),),
    "folds": ((*TABLE3, "2", "--algorithm", "random", "--trials", "2", "--folds", "3"),),
    # Baselines and the first networks of the other tasks.
    "masks": (("run", "--data", "scenes", "--space", "segmentation", *SHORT, "2"),),
    "boxes": (("run", "--data", "digit_scenes", "--space", "detection", *SHORT, "2"),),
    "larger": (("run", "--data", "photographs", "--space", "super_resolution_zoo", *SHORT, "6"),),
}
FUSED = """
import hashlib
from trainables.config import TrialConfig
from trainables.datasets.load import load
from trainables.fusion.stack import train_together
from trainables.training.loop import Training
base = TrialConfig().override({"model.name": "mnist_cnn", "model.width": 8, "epochs": 2})
dataset = load(base.data)
configs = [base.override({"optimizer.lr": lr, "seed": 7}) for lr in (1e-3, 3e-3, 1e-2)]
made = [Training(config, dataset) for config in configs]
for epoch in (1, 2):
    for number, told in enumerate(train_together(made)):
        del told.values["time/epoch_s"]
        print(number, told.values)
for training in made:
    digest = hashlib.sha256()
    for name, value in sorted(training.network.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    print(digest.hexdigest())
"""


def plain(value: Any) -> Any:
    """Return the same without what may differ between two runs of one search."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in sorted(value.items()) if key not in OMITTED}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def lines(checkout: Path, case: str, folder: Path) -> Iterator[str]:
    """Run a case in a checkout and yield its journal's events."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    for verb, *words in CASES[case]:
        place = ("--storage", "searches", "--tracking", f"sqlite:///{folder}/mlflow.db")
        named = (*COMMON, "--name", case) if verb == "run" else ()
        command = [sys.executable, "-m", f"search.{verb}", *words, *named, *place]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode not in (0, 6):  # 6: no better than guessing
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    for line in (folder / "searches" / case / "journal.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] not in ("drawn", "slots", "evaluated", "running"):
            yield f"{case} {json.dumps(plain(event))}"


def main() -> None:
    """Print every case's lines."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkout", type=Path, default=Path.cwd(), help="of which version")
    parser.add_argument("--case", choices=[*CASES, "fused"], nargs="*", help="default: all")
    args = parser.parse_args()
    for case in args.case or [*CASES, "fused"]:
        if case == "fused":
            environment = {**os.environ, "PYTHONPATH": str(args.checkout.absolute())}
            code = [sys.executable, "-c", FUSED]
            done = subprocess.run(code, env=environment, capture_output=True, text=True, check=True)
            sys.stdout.write(done.stdout)
            continue
        with TemporaryDirectory() as folder:
            for line in lines(args.checkout.absolute(), case, Path(folder)):
                print(line)


if __name__ == "__main__":
    main()
