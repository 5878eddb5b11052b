"""What one command finds within a budget: the space auto beside other ways to use the same time.

    python -m tests.bench.one_command --data digits --data folder:FLOWERS --weights FOLDER

Each way is a search as a user would start it, with the same budget and an empty cache: `auto`;
probes alone; MobileNetV2, fine-tuned once with good settings; the spaces `transfer` and `table3`.
The weights are those in the folder. Prints Markdown: the accuracy on the test set, and for `auto`
the seconds until the first answer and the share of the budget that was used. With `--results FILE`
each search's figures are kept there, and an interrupted run continues. The machine should do
nothing else.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.exit_codes import ExitCode
from search.journal.journal import FILE_NAME, read
from search.journal.result import SearchResult
from tests.bench.commands import execute, scratch

TUNED = {
    "model.name": "mobilenet_v2",
    "model.freeze": "all_but_last_stage",
    "model.input_size": 96,
    "optimizer.lr": 0.003,
    "optimizer.backbone_lr": 0.0003,
    "optimizer.weight_decay": 1e-4,
    "batch_size": 32,
    "augment.crop": 4,
    "augment.jitter": 0.0,
}
ONE = ["--algorithm", "grid", "--scheduler", "fifo"]
WAYS = {
    "auto": ["--space", "auto"],
    "probe": ["--space", "probe"],
    "MobileNetV2": [
        "--space",
        "transfer",
        *ONE,
        *[word for path, value in TUNED.items() for word in ("--set", f"{path}={value}")],
    ],
    "transfer": ["--space", "transfer"],
    "table3": ["--space", "table3"],
}
WITHOUT_WEIGHTS = {"table3"}


@dataclass(frozen=True)
class Run:
    """One search, and what it found."""

    data: str
    way: str
    budget: str
    seed: int
    test: float
    """The accuracy of its answer on the test set."""
    first_s: float
    """The seconds from the start of the command to the end of the first epoch of any trial."""
    seconds: float
    """The seconds that the command took."""
    trials: int
    models: list[str]
    """The models that finished an epoch, in the order of their first one."""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """The fields that identify the search."""
        return self.data, self.way, self.budget, self.seed


def measure(data: str, way: str, budget: str, seed: int, weights: Path) -> Run:
    """Run one search in a scratch folder."""
    options = [] if way in WITHOUT_WEIGHTS else ["--weights", str(weights)]
    with scratch() as folder:
        words = ["search.run", "--data", data, *WAYS[way], *options, "--budget", budget]
        environment = {"XDG_CACHE_HOME": str(folder / "cache")}
        _, began, seconds = execute(
            [*words, "--seed", seed, "--name", "s", "--device", "cpu"],
            folder,
            environment,
            allowed=(ExitCode.SUCCESS, ExitCode.AT_CHANCE),
        )
        events = read(folder / "searches" / "s" / FILE_NAME)
        result = SearchResult()
        first_s = 0.0
        for event in events:
            result.apply(event)
            if event.kind == "epoch" and not first_s:
                first_s = event.time_ms / 1000 - began
    trained = [trial for trial in result.trials.values() if trial.epochs]
    models = list(dict.fromkeys(str(trial.config["model"]["name"]) for trial in trained))
    test = float(result.test["accuracy"])
    return Run(data, way, budget, seed, test, first_s, seconds, len(trained), models)


def runs(args: argparse.Namespace) -> Iterator[Run]:
    """Yield every search, measured now or kept in the file of results."""
    kept: dict[tuple[str, str, str, int], Run] = {}
    if args.results is not None and args.results.exists():
        for line in args.results.read_text().splitlines():
            run = Run(**json.loads(line))
            kept[run.key] = run
    for data in args.data:
        for budget in args.budget:
            for seed in range(args.seeds):
                for way in args.way:
                    key = (data, way, budget, seed)
                    if key not in kept:
                        kept[key] = measure(*key, args.weights)
                        if args.results is not None:
                            with args.results.open("a") as file:
                                file.write(json.dumps(asdict(kept[key])) + "\n")
                    yield kept[key]


def table(measured: list[Run], ways: list[str]) -> Iterator[str]:
    """Yield the lines of the table: a row for each data set and budget."""
    yield "| data | budget | " + " | ".join(ways) + " | first answer | used |"
    yield "|---" * (len(ways) + 4) + "|"
    for data, budget in dict.fromkeys((run.data, run.budget) for run in measured):
        rows = [run for run in measured if (run.data, run.budget) == (data, budget)]
        cells = []
        for way in ways:
            tests = [run.test for run in rows if run.way == way]
            spread = f" ({min(tests):.3f} to {max(tests):.3f})" if len(tests) > 1 else ""
            cells.append(f"{statistics.mean(tests):.3f}{spread}")
        own = [run for run in rows if run.way == "auto"] or rows
        first_s = statistics.mean(run.first_s for run in own)
        seconds = statistics.mean(run.seconds for run in own)
        name = data.rpartition("/")[2]
        yield f"| {name} | {budget} | {' | '.join(cells)} | {first_s:.0f} s | {seconds:.0f} s |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", action="append", required=True, help="as for search.run")
    parser.add_argument("--weights", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--budget", action="append", help="default: 1m and 4m")
    parser.add_argument("--way", action="append", choices=WAYS, help="default: all")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    args.budget, args.way = args.budget or ["1m", "4m"], args.way or list(WAYS)
    print("\n".join(table(list(runs(args)), args.way)))


if __name__ == "__main__":
    main()
