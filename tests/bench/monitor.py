"""How often search.monitor cries wolf, and how often it sees a change.

    python -m tests.bench.monitor --data-root FOLDER [--runs 200]
    python -m tests.bench.monitor --improved [--runs 300]

FOLDER holds a data set of small photographs as `train/` with a folder for each class, such as
CIFAR-10 as files. Of 20,000 of its images a network is searched as a user would; 12,000 others are
what it meets. Each run draws new images, and the images of its reference among all that validated
the network, so that a rate is one over both. Without a change there are `--runs` runs, with one a
quarter of them. Prints Markdown: the share of runs that raise an alarm.

With `--improved`, which needs no data, it is the monitor of a model that was improved by what it
met, played by made-up images (`tests.support.improved`): before the improvement and after it.
"""

import argparse
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from search.api import Search, load, run
from search.feedback.bounded import UNCERTAIN, USUAL
from search.feedback.monitoring.correctness import Judged, suggested
from search.feedback.monitoring.findings import RATE, tests_of
from search.feedback.monitoring.window import Window
from search.feedback.records import DECIMALS, Seen
from search.promote import config_of, dataset_of
from search.statistics import shared
from tests.bench.commands import scratch
from tests.support.improved import ALL, CLEAN, MISTAKES, ROUGH, ROUGHER, Images, Play
from trainables.datasets.arrays import SIXTEEN_BITS
from trainables.export.image_features import features_of
from trainables.export.reference import IMAGES, Reference

TRAINED_ON, MET = 20_000, 12_000
SIZES = (100, 300, 1000)
ONE = {"algorithm": "grid", "scheduler": "fifo", "executor": "inline", "device": "cpu"}
SETTINGS = [
    "model.name=deep_cnn",
    "model.layers=8",
    "model.filter_size=3",
    "model.width=24",
    "model.dropout=0.0",
    "optimizer.name=adam",
    "optimizer.lr=0.003",
    "optimizer.schedule=cosine",
    "batch_size=128",
    "epochs=12",
    "augment.flip=true",
    "augment.crop=2",
]
UNSURE, CORRECTED = 0.7, (0.6, 0.1)
"""Of images with a confidence below that so many are corrected, and so many of the others."""
Pixels = NDArray[np.uint8]
CHANGES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "blur (0.6 pixels)": lambda images: gaussian_filter(images, (0, 0.6, 0.6, 0)),
    "noise (8 of 255)": lambda images: images + np.random.default_rng(0).normal(0, 8, images.shape),
    "contrast (three quarters)": lambda images: (
        images.mean((1, 2, 3), keepdims=True) * 0.25 + images * 0.75
    ),
}
SHARES = (0.1, 0.25, 0.5)
CLASSES = {
    "a class is less frequent": (0.5, 0.25, 0.0),
    "a class is more frequent": (1.5, 2.0, 3.0),
}


@dataclass(frozen=True)
class Met:
    """Images, as the model sees them."""

    targets: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    features: NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """A change, and how strong it is."""

    title: str
    strength: str
    draw: Callable[[int, np.random.Generator], Met]
    corrects: bool = False


def divide(images: Path, to: Path) -> list[Path]:
    """Link the images that a network is trained on, and return those that it meets."""
    paths = sorted(images.glob("train/*/*.*"))
    random.Random(0).shuffle(paths)
    for path in paths[:TRAINED_ON]:
        (to / "train" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to / "train" / path.parent.name)
    return paths[TRAINED_ON:][:MET]


def met(found: Search, paths: list[Path]) -> tuple[Met, dict[str, Met]]:
    """Return the validation images, and the others as they are and as each change leaves them."""
    model, told = load(found.name, storage=found.storage), found._told
    assert told.chosen is not None
    dataset = dataset_of(told, config_of(told.chosen, Path(told.started.data["root"])))
    names = [path.parent.name for path in paths]
    targets = np.array([model.classes.index(name) for name in names])
    images = np.stack([np.asarray(Image.open(path)) for path in paths])

    def seen(pixels: Pixels, of: NDArray[np.int64]) -> Met:
        return Met(of, model.probabilities(pixels), features_of(pixels))

    made = {"none": seen(images, targets)}
    for title, change in CHANGES.items():
        pixels = np.rint(np.clip(change(images.astype(np.float64)), 0, 255)).astype(np.uint8)
        made[title] = seen(pixels, targets)
    return seen(dataset.val.images, np.asarray(dataset.val.targets)), made


def cases(made: dict[str, Met]) -> Iterator[Case]:
    """Yield each change at each strength."""
    plain = made["none"]
    yield Case("none", "", lambda count, draw: _mixed(plain, plain, 0, count, draw))
    yield Case(
        "none",
        "some corrected",
        lambda count, draw: _mixed(plain, plain, 0, count, draw),
        corrects=True,
    )
    for title in CHANGES:
        for share in SHARES:
            yield Case(
                title,
                f"{100 * share:.0f} % of images",
                lambda count, draw, title=title, share=share: _mixed(  # type: ignore[misc]
                    plain, made[title], share, count, draw
                ),
            )
    for title, factors in CLASSES.items():
        for factor in factors:
            yield Case(
                title,
                f"x {factor:g}",
                lambda count, draw, factor=factor: _other_mix(plain, factor, count, draw),  # type: ignore[misc]
            )


def _taken(of: Met, rows: NDArray[np.intp]) -> Met:
    return Met(of.targets[rows], of.probabilities[rows], of.features[rows])


def _mixed(plain: Met, changed: Met, share: float, count: int, draw: np.random.Generator) -> Met:
    """Draw images of which a share is changed."""
    rows = draw.permutation(len(plain.targets))[:count]
    first = round(share * count)
    one, other = _taken(changed, rows[:first]), _taken(plain, rows[first:])
    parts = (np.concatenate([getattr(one, name), getattr(other, name)]) for name in vars(one))
    return Met(*parts)


def _other_mix(plain: Met, factor: float, count: int, draw: np.random.Generator) -> Met:
    """Draw images of which those of one class are so many times as frequent."""
    label = draw.integers(plain.targets.max() + 1)
    weights = np.where(plain.targets == label, factor, 1.0)
    rows = draw.choice(len(weights), count, replace=False, p=weights / weights.sum())
    return _taken(plain, rows)


def alarms(case: Case, val: Met, count: int, seed: int) -> list[str]:
    """Return what raises an alarm in one run."""
    draw = np.random.default_rng([seed, count])
    held = _taken(val, draw.permutation(len(val.targets))[:IMAGES])
    reference = Reference(
        tuple(map(str, range(held.probabilities.shape[1]))),
        (32, 32, 3),
        SIXTEEN_BITS,
        held.targets,
        held.probabilities,
        held.features,
    )
    new = case.draw(count, draw)
    answers = [
        Seen(
            str(row),
            row,
            str(row),
            "1",
            tuple(chances),
            USUAL if max(chances) >= UNSURE else UNCERTAIN,
        )
        for row, chances in enumerate(new.probabilities.round(DECIMALS).tolist())
    ]
    window = Window("1", answers, count, {}, [], 0, features=new.features)
    if case.corrects:
        unsure = new.probabilities.max(axis=1) < UNSURE
        told = draw.random(count) < np.where(unsure, *CORRECTED)
        window.corrected = [(answers[row], int(new.targets[row])) for row in np.flatnonzero(told)]
    tests = tests_of(reference, window, draw)
    own = shared(RATE, len(tests))
    return [test.name for test in tests if test.run() <= own]


def table(val: Met, made: dict[str, Met], runs: int) -> Iterator[str]:
    """Yield the lines of the table of alarms."""
    yield "| change | strength | " + " | ".join(f"{count:,} images" for count in SIZES) + " |"
    yield "|---|---|" + "---|" * len(SIZES)
    for case in cases(made):
        cells = []
        for count in SIZES:
            own = runs if case.title == "none" else runs // 4
            found = [alarms(case, val, count, seed) for seed in range(own)]
            cells.append(_rates(found))
        yield f"| {case.title} | {case.strength} | " + " | ".join(cells) + " |"


def _rates(found: list[list[str]]) -> str:
    """Return the share of runs with an alarm, and of those in which each test raised it."""
    by = {name: sum(name in one for one in found) for one in found for name in one}
    each = ", ".join(f"{name} {100 * hits / len(found):.0f}" for name, hits in sorted(by.items()))
    share = 100 * sum(map(bool, found)) / len(found)
    return f"{share:.1f} %" + (f" ({each})" if each else "")


def suggestions(val: Met, made: dict[str, Met]) -> Iterator[str]:
    """Yield the lines of the table of accuracies, and what the confidences suggest."""
    yield "| images | accuracy | suggested |"
    yield "|---|---|---|"
    before = Judged.of(val.probabilities, val.targets)
    yield f"| validation | {before.right.mean():.3f} | |"
    for title, new in made.items():
        now = Judged.of(new.probabilities, new.targets)
        told = suggested(before, now.confidence)
        yield f"| {title} | {now.right.mean():.3f} | {told.value:.3f} |"


@dataclass(frozen=True)
class Improved:
    """A model that was improved, and what it meets then."""

    title: str
    corrected: str = ALL
    noise: float = ROUGH
    again: float = 0.0
    """The share of the images that were met before."""
    clear: float = 0.75
    """How clearly the champion sees, beside its successor."""
    takes_off_luck: bool = True
    is_held_to_met: bool = True

    def alarms(self, count: int, seed: int) -> list[str]:
        """Return what raises an alarm in one run, of so many images before and half of it after.

        Only successors count that became the champion, by a test at 5 %.
        """
        draw, least = np.random.default_rng([seed, count]), NormalDist().inv_cdf(0.95)
        while True:
            before = Images.made(count, draw, ROUGH, clear=self.clear)
            play = Play(before, Images.made(400, draw, CLEAN), self.corrected, least=least)
            if self.corrected != ALL or play.decision().p_better <= 0.05:
                break
        reference = play.improved()
        rows = draw.permutation(count)[: round(self.again * count / 2)]
        new = Images.made(count // 2 - len(rows), draw, self.noise)
        if reference.met is not None and not self.takes_off_luck:
            met = replace(reference.met, luck=0 * reference.met.luck)
            reference = replace(reference, met=met)
        if not self.is_held_to_met:
            reference = replace(reference, met=None)
        window = play.meets(before.taken(rows).and_then(new), reference, 0.6)
        tests = tests_of(reference, window, draw)
        own = shared(RATE, len(tests))
        return [test.name for test in tests if test.run() <= own]


IMPROVED = (
    Improved("none; all kept images are corrected"),
    Improved("none; the champion's mistakes alone are corrected", MISTAKES),
    Improved("none; half of the images were met before", again=0.5),
    Improved("none; a champion that is nearly as good", clear=0.95),
    Improved("none; the same, its luck not taken off", clear=0.95, takes_off_luck=False),
    Improved("that of the improvement; held to the validation images", is_held_to_met=False),
    Improved("half as much noise again", noise=ROUGHER),
    Improved("as in the validation part", noise=CLEAN),
)
MET_BEFORE = (300, 800)


def improved_table(runs: int) -> Iterator[str]:
    """Yield the lines of the table of alarms of a model that was improved."""
    sizes = (f"{count:,} before, {count // 2:,} after" for count in MET_BEFORE)
    yield "| change | " + " | ".join(sizes) + " |"
    yield "|---|" + "---|" * len(MET_BEFORE)
    for case in IMPROVED:
        cells = (_rates([case.alarms(count, seed) for seed in range(runs)]) for count in MET_BEFORE)
        yield f"| {case.title} | " + " | ".join(cells) + " |"


def main() -> None:
    """Search a network, change images, and count the alarms."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data-root", type=Path)
    what.add_argument("--improved", action="store_true")
    parser.add_argument("--runs", type=int, default=200)
    args = parser.parse_args()
    if args.improved:
        for line in improved_table(args.runs):
            print(line, flush=True)
        return
    images = args.data_root.absolute()
    with scratch() as folder:
        os.chdir(folder)
        paths = divide(images, Path("images"))
        found = run(
            space="table3", data="folder:images", name="watched", quiet=True, set=SETTINGS, **ONE
        )
        val, made = met(found, paths)
        for line in [*suggestions(val, made), ""]:
            print(line, flush=True)
        for line in table(val, made, args.runs):
            print(line, flush=True)


if __name__ == "__main__":
    main()
