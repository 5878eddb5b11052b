"""What to expect of how many images: from nothing, trained weights, and hand-made features.

    python -m tests.bench.first_step --data-root FOLDER --weights mobilenet_v2=FILE [--seeds 3]

FOLDER holds a data set of small photographs as `train/` and `test/` with a folder for each class,
such as CIFAR-10 as files. For each seed and number of images a class, that many are drawn from
`train/` (a fifth of them validates), and searched as a user would: one network or classifier, with
settings that suit it. All are tested on the whole of `test/`. Prints Markdown: means over the
seeds, with the range. With `--results FILE` each search's accuracy is kept there, and a run that
was broken off goes on.
"""

import argparse
import json
import os
import random
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path

from search.api import run
from tests.bench.commands import scratch

SIZES = (30, 100, 300, 1000)
ONE = {"algorithm": "grid", "scheduler": "fifo", "executor": "inline", "device": "cpu"}
"""All is fixed, so that the grid has one point, which is trained in full."""
FROM_NOTHING = {
    "optimizer.lr": 0.003,
    "optimizer.schedule": "cosine",
    "batch_size": 32,
    "model.layers": 10,
    "model.filter_size": 3,
    "augment.flip": True,
    "augment.crop": 4,
}
TRAINED = {
    "model.freeze": "all_but_last_stage",
    "optimizer.lr": 0.003,
    "optimizer.backbone_lr": 0.0003,
    "optimizer.weight_decay": 1e-4,
    "batch_size": 32,
    "augment.flip": True,
    "augment.crop": 4,
    "augment.jitter": 0.0,
}
HAND_MADE = {"model.name": "svm", "model.features": "hog", "model.c": 10.0, "model.gamma": 1.0}
EPOCHS = {
    "table3": {30: 60, 100: 40, 300: 25, 1000: 12},
    "transfer": {30: 20, 100: 10, 300: 4, 1000: 2},
}
"""The epochs of a training by space and images a class: about as many as it gains by."""


def ways(weights: dict[str, Path], side: int) -> dict[str, tuple[str, dict[str, object]]]:
    """Return the space and the settings of each way, by its title."""
    trained = {
        f"trained weights of {name}, {side} x {side}": (
            "transfer",
            TRAINED
            | {
                "model.name": name,
                "model.weights": str(place.absolute()),
                "model.input_size": side,
            },
        )
        for name, place in weights.items()
    }
    return {
        "hand-made features": ("baselines", HAND_MADE),
        "from nothing": ("table3", FROM_NOTHING),
        **trained,
    }


def draw(images: Path, per_class: int, seed: int, to: Path) -> None:
    """Copy so many images of each class, drawn at random, and link the test images."""
    generator = random.Random(seed)
    for folder in sorted((images / "train").iterdir()):
        (to / "train" / folder.name).mkdir(parents=True)
        for path in generator.sample(sorted(folder.iterdir()), per_class):
            shutil.copy(path, to / "train" / folder.name)
    shutil.copytree(images / "test", to / "test")


def accuracy(space: str, settings: dict[str, object], images: Path, seed: int, here: Path) -> float:
    """Run one search in a folder, and return the accuracy on the test images."""
    found = run(
        space=space,
        data=f"folder:{images}",
        seed=seed,
        set=settings,
        **ONE,
        storage=here / "searches",
        tracking=f"sqlite:///{here}/mlflow.db",
        quiet=True,
    )
    shutil.rmtree(here / "searches")
    return float(found.test["accuracy"])


def measured(args: argparse.Namespace) -> Iterator[tuple[str, int, float]]:
    """Yield the way, the images a class and the accuracy of each search, as it ends."""
    known = {}
    if args.results is not None and args.results.exists():
        lines = map(json.loads, args.results.read_text().splitlines())
        known = {(way, size, seed): value for way, size, seed, value in lines}
    with scratch() as here:
        for size in args.sizes:
            for seed in range(1, args.seeds + 1):
                images = here / f"{size}-{seed}"
                for way, (space, settings) in ways(dict(args.weights), args.side).items():
                    if (way, size, seed) not in known:
                        if not images.exists():
                            draw(args.data_root, size, seed, images)
                        epochs = {"epochs": EPOCHS[space][size]} if space in EPOCHS else {}
                        value = accuracy(space, settings | epochs, images, seed, here)
                        known[way, size, seed] = value
                        if args.results is not None:
                            with args.results.open("a") as file:
                                file.write(json.dumps([way, size, seed, value]) + "\n")
                    yield way, size, known[way, size, seed]
                shutil.rmtree(images, ignore_errors=True)


def table(found: list[tuple[str, int, float]]) -> Iterator[str]:
    """Yield the lines of the table: a row a way, a column for each number of images."""
    sizes = list(dict.fromkeys(size for _, size, _ in found))
    yield "| images a class | " + " | ".join(f"{size:,}" for size in sizes) + " |"
    yield "|---" * (len(sizes) + 1) + "|"
    for way in dict.fromkeys(way for way, _, _ in found):
        cells = []
        for size in sizes:
            values = [value for title, of, value in found if (title, of) == (way, size)]
            low, high = min(values), max(values)
            cells.append(f"{statistics.mean(values):.1%} ({low:.1%} to {high:.1%})")
        yield f"| {way} | " + " | ".join(cells) + " |"


def named_file(text: str) -> tuple[str, Path]:
    """Return the family and the file of `FAMILY=FILE`."""
    name, _, place = text.partition("=")
    return name, Path(place)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--weights",
        type=named_file,
        action="append",
        default=[],
        metavar="FAMILY=FILE",
        help="trained weights of a family; may be given several times",
    )
    parser.add_argument("--side", type=int, default=96, help="to which `transfer` enlarges images")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, choices=SIZES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, metavar="FILE", help="where accuracies are kept")
    args = parser.parse_args()
    os.environ["IMAGE_CACHE_GB"] = "0"
    print(*table(list(measured(args))), sep="\n")


if __name__ == "__main__":
    main()
