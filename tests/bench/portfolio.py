"""Learning from earlier searches: writes the portfolio of the package, and measures its gain.

    python -m tests.bench.portfolio collect --data ... --weights FOLDER --storage FOLDER
    python -m tests.bench.portfolio table --storage FOLDER
    python -m tests.bench.portfolio compare --data ... --weights FOLDER --storage FOLDER
    python -m tests.bench.portfolio recorded --curves FOLDER

`collect` searches each data set with `--space auto --no-learn`, and `table` writes the examples of
these searches to `search/preflight/portfolio.json`. `compare` searches each data set again, now
with the searches of all others in the storage and without the table; told are the epochs, and the
seconds from the start of the command, until a trial is within half a point of the best one of both
searches. `recorded` does the same on the recorded tasks of LCBench, whose networks are the same for
each task: whole trainings in random order, after the best ones of searches of other tasks.
"""

import argparse
import json
import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np

from cluster.exit_codes import ExitCode
from search.journal.journal import FILE_NAME, read
from search.journal.result import SearchResult
from search.preflight import lessons
from search.preflight.portfolio import TABLE, examples_of
from search.run import main as search_main
from tests.bench.commands import execute, scratch

NEAR = 0.005
"""The distance from the best, of a metric from 0 to 1, that counts as having found it."""
DRAWN, ORDERS, COUNTS = 200, 20, (0, 1, 3, 5, 10)
WITHOUT_TABLE = "search-without-table"


@dataclass(frozen=True)
class Course:
    """The best validation accuracy of a search over time."""

    epochs: list[int]
    """The number of epochs of all trials, at each improvement."""
    seconds: list[float]
    """The seconds since the start of the command, at each improvement."""
    values: list[float]

    def until(self, value: float) -> tuple[int | None, float | None]:
        """Return the epochs and seconds until this value was reached; None if it was not."""
        for epoch, second, reached in zip(self.epochs, self.seconds, self.values, strict=True):
            if reached >= value:
                return epoch, second
        return None, None


def course_of(journal: Path) -> Course:
    """Read the course of a search from its journal."""
    result, course, began = SearchResult(), Course([], [], []), 0
    count = 0
    for event in read(journal):
        result.apply(event)
        began = began or result.started_ms
        if event.kind == "epoch":
            count += 1
            best = result.best
            if best is not None and (not course.values or best.score > course.values[-1]):
                course.epochs.append(count)
                course.seconds.append((event.time_ms - began) / 1000)
                course.values.append(best.score)
    return course


def search(data: str, storage: Path, args: argparse.Namespace, *words: str) -> None:
    """Search a data set with an empty cache, without the table of the package."""
    name = name_of(data, args.seed)
    if (storage / name / FILE_NAME).exists():
        return
    with scratch() as folder:
        execute(
            [
                *("tests.bench.portfolio", WITHOUT_TABLE, "--space", "auto", "--data", data),
                *("--weights", args.weights, "--storage", storage, "--name", name),
                *("--budget", args.budget, "--seed", args.seed, "--device", "cpu", *words),
            ],
            folder,
            {"XDG_CACHE_HOME": str(folder / "cache")},
            allowed=(ExitCode.SUCCESS, ExitCode.AT_CHANCE),
        )


def name_of(data: str, seed: int) -> str:
    """Return the name of the search of a data set."""
    return f"{data.rpartition('/')[2]}-{seed}"


def collect(args: argparse.Namespace) -> None:
    """Search each data set without learning from others."""
    for data in args.data:
        search(data, args.storage, args, "--no-learn", "--no-cache")
        course = course_of(args.storage / name_of(data, args.seed) / FILE_NAME)
        print(f"{data}: {course.values[-1]:.4f} after {course.seconds[-1]:.0f} s", flush=True)


def draw(courses: dict[str, tuple[Course, Course]], path: Path) -> None:
    """Draw the best validation accuracy over time, without and with lessons, for each data set."""
    rows = math.ceil(len(courses) / 3)
    figure, grid = plt.subplots(
        rows, 3, figsize=(9, 2.2 * rows), layout="constrained", squeeze=False
    )
    for axes, (name, pair) in zip(grid.flat, courses.items(), strict=False):
        end = 1.05 * max(course.seconds[-1] for course in pair)
        for course, label in zip(pair, ("without lessons", "with lessons"), strict=True):
            times, values = [*course.seconds, end], [*course.values, course.values[-1]]
            axes.step(times, values, where="post", label=label)
        axes.set_title(name, fontsize="medium")
        axes.set_xlim(0, end)
    for axes in grid.flat[len(courses) :]:
        axes.set_axis_off()
    figure.supxlabel("seconds since the start of the command")
    figure.supylabel("best validation accuracy")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    figure.savefig(path)
    plt.close(figure)


def compare(args: argparse.Namespace) -> None:
    """Search each data set with the searches of all others beside it, and print a table."""
    courses: dict[str, tuple[Course, Course]] = {}
    print("| data | best without, with | epochs until near | seconds until near |")
    print("|---|---|---|---|")
    for data in args.data:
        name = name_of(data, args.seed)
        place = args.storage.parent / f"{args.storage.name}-beside-{name}"
        for other in args.storage.iterdir():
            is_other = other.name.rpartition("-")[0] != name.rpartition("-")[0]
            if is_other and (other / FILE_NAME).exists() and not (place / other.name).exists():
                (place / other.name).mkdir(parents=True)
                shutil.copy(other / FILE_NAME, place / other.name)
        search(data, place, args, "--no-cache")
        without, taught = (
            course_of(storage / name / FILE_NAME) for storage in (args.storage, place)
        )
        courses[name] = (without, taught)
        best = max(without.values[-1], taught.values[-1])
        ends = [course.until(best - NEAR) for course in (without, taught)]
        epochs, seconds = (
            " and ".join("never" if end is None else f"{end:.0f}" for end in pair)
            for pair in zip(*ends, strict=True)
        )
        print(
            f"| {name} | {without.values[-1]:.4f}, {taught.values[-1]:.4f} | {epochs} | "
            f"{seconds} |",
            flush=True,
        )
    if args.picture:
        draw(courses, args.picture)


def table(args: argparse.Namespace) -> None:
    """Write the examples of all searches of a storage to the table of the package."""
    journals = sorted(args.storage.glob(f"*/{FILE_NAME}"))
    examples = [
        example for path in journals for example in examples_of(SearchResult.read(path.parent))
    ]
    values = [
        example.to_json() | {"data": example.data.removeprefix("folder ")} for example in examples
    ]
    lines = ",\n ".join(map(json.dumps, values))
    TABLE.write_text(f"[{lines}]\n", "utf-8")
    print(f"{len(examples)} examples")


def recorded(args: argparse.Namespace) -> None:
    """Print how many whole trainings of LCBench it takes, by the number of lessons."""
    (path,) = args.curves.glob("lcbench*.npz")
    tables = np.load(path)
    bests = [
        np.exp(-tables[f"Y{number}"].astype(float))[:, 1:].max(axis=1)
        for number in range(len(tables["names"]))
    ]
    print("| lessons | trainings until near, mean and median | points behind after 10 |")
    print("|---|---|---|")
    orders = [order for task in range(len(bests)) for order in _orders(bests, task)]
    for count in COUNTS:
        until, behind = zip(*(order[count] for order in orders), strict=True)
        print(
            f"| {count} | {np.mean(until):.1f}, {np.median(until):.0f} | "
            f"{100 * np.mean(behind):.2f} |"
        )


def _orders(bests: Sequence[np.ndarray], task: int) -> Iterator[dict[int, tuple[int, float]]]:
    """Yield for each order of a task the trainings until near, and the loss, by lessons."""
    for seed in range(ORDERS):
        generator = np.random.default_rng([task, seed])
        rows = generator.permutation(len(bests[task]))[:DRAWN]
        best = bests[task][rows].max()
        learned = []
        for other in generator.permutation(len(bests)):
            if other != task:
                drawn = generator.permutation(len(bests[other]))[:DRAWN]
                learned.append(drawn[bests[other][drawn].argmax()])
        found = {}
        for count in COUNTS:
            values = bests[task][[*learned[:count], *rows]]
            found[count] = (
                int(np.flatnonzero(values >= best - NEAR)[0]) + 1,
                float(best - values[:10].max()),
            )
        yield found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == [WITHOUT_TABLE]:
        with patch.object(lessons, "shipped_examples", list):
            sys.exit(search_main(words[1:]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = {each.__name__: each for each in (collect, table, compare, recorded)}
    parser.add_argument("command", choices=commands)
    parser.add_argument("--data", action="append", default=[], help="as for search.run")
    parser.add_argument("--weights", type=lambda text: Path(text).absolute())
    parser.add_argument("--storage", type=lambda text: Path(text).absolute())
    parser.add_argument("--budget", default="2m")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--curves", type=Path)
    parser.add_argument("--picture", type=Path, help="of the best accuracy over time")
    args = parser.parse_args(words)
    commands[args.command](args)


if __name__ == "__main__":
    main()
