"""How often promises about a classifier's answers are broken, and which unlike images it detects.

    python -m tests.bench.promises NAME... [--storage FOLDER] [--splits 200] [--save FILE.npz]
    python -m tests.bench.promises NAME --unlike FOLDER... [--images 1000]

The models are the answers of searches. Without `--unlike`, the images that a model was not trained
on are divided at random into halves, many times: thresholds and limits are computed on one half,
and errors and coverage are measured on the other. With `--unlike`, each folder has images that are
unlike those of the search; the table gives the share that is reported at a false-alarm rate of 5 %,
and areas under the ROC curve. Prints Markdown. `--save` writes the probabilities and the true
classes, to compare other libraries on the same images.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from search.journal.result import SearchResult, TrialResult
from search.journal.store import home
from search.trained.answer import find_answer
from search.trained.export import config_of, dataset_of, local_checkpoint
from search.values.statistics import share_interval
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.datasets.images import SUFFIXES
from trainables.evaluation.evaluate import predictions
from trainables.export.export import export
from trainables.predictors.base import at_temperature
from trainables.reliability.promises import Promises, select_threshold, set_limits
from trainables.reliability.unlike import area_above
from trainables.tasks.calibration import fit_temperature
from trainables.tasks.classification.model import Classifier
from trainables.tasks.classification.predictor import Predictor

ERRORS = (0.05, 0.02, 0.01)
COVERAGES = (0.9, 0.95, 0.99)
FALSE_ALARMS = 0.05


def trained(name: str, storage: Path) -> tuple[TrialConfig, Dataset, Path]:
    """Return the config, the data and the checkpoint of a search's answer."""
    place = home(storage, name)
    result = SearchResult.read(place.opened())
    trial: TrialResult = find_answer(result, place, storage, None)
    config = config_of(result, trial)
    return config, dataset_of(result, config), local_checkpoint(place, trial)


def held_out(name: str, storage: Path) -> tuple[np.ndarray, np.ndarray]:
    """Predict the validation and the test images; return (probabilities, true classes)."""
    config, dataset, path = trained(name, storage)
    parts = [part for part in (dataset.val, dataset.test) if part is not None]
    chances = [predictions(config, dataset, part, path) for part in parts]
    temperature = fit_temperature(chances[0], np.asarray(parts[0].targets))
    return (
        at_temperature(temperature, np.concatenate(chances)),
        np.concatenate([np.asarray(part.targets) for part in parts]),
    )


def halves(images: int, splits: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield two random halves of the images, several times."""
    for split in range(splits):
        order = np.random.default_rng(split).permutation(images)
        yield order[: images // 2], order[images // 2 :]


def selective_rows(chances: np.ndarray, labels: np.ndarray, splits: int) -> Iterator[str]:
    """Yield a row of the table of wrong answers for each allowed share."""
    confidence, is_right = chances.max(axis=1), chances.argmax(axis=1) == labels
    for allowed in ERRORS:
        violations, answered, refused = 0, [], 0
        for first, second in halves(len(labels), splits):
            selection = select_threshold(confidence[first], is_right[first], allowed)
            if selection is None:
                refused += 1
                continue
            own = confidence[second] >= selection.threshold
            answered.append(own.mean())
            violations += (~is_right[second][own]).mean() > allowed if own.any() else 0
        made = splits - refused
        low, high = share_interval(violations / made, made) if made else (0, 1)
        range_text = f"{100 * low:.1f} to {100 * high:.1f} %"
        mean = np.mean(answered) if answered else 0
        yield (
            f"| {100 * allowed:g} % | {violations} of {made} ({range_text}) |"
            f" {100 * mean:.1f} % | {refused} |"
        )


def set_rows(chances: np.ndarray, labels: np.ndarray, splits: int) -> Iterator[str]:
    """Yield a row of the table of sets for each coverage, for all images and by class."""
    classes = chances.shape[1]
    for coverage in COVERAGES:
        for by_class in (False, True):
            shares_covered, sizes, least = [], [], []
            for first, second in halves(len(labels), splits):
                limits = set_limits(chances[first], labels[first], coverage, by_class=by_class)
                possible = chances[second] >= np.array([limit or 0.0 for limit in limits])
                own = possible[np.arange(len(second)), labels[second]]
                shares_covered.append(own.mean())
                sizes.append(possible.sum(axis=1).mean())
                least.append([own[labels[second] == label].mean() for label in range(classes)])
            kind = "of each class" if by_class else "of all"
            yield (
                f"| {100 * coverage:g} % {kind} | {100 * np.mean(shares_covered):.2f} % "
                f"({100 * np.quantile(shares_covered, 0.025):.1f} to "
                f"{100 * np.quantile(shares_covered, 0.975):.1f}) | "
                f"{100 * np.mean(least, axis=0).min():.2f} % | {np.mean(sizes):.2f} |"
            )


def unlike_rows(name: str, storage: Path, folders: list[Path], images: int) -> Iterator[str]:
    """Export the model with the promise `--unlike 5%`, and yield a row for each folder."""
    config, dataset, path = trained(name, storage)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        export(config, dataset, path, folder, promises=Promises(false_alarms=FALSE_ALARMS))
        predictor = Predictor(folder)
        model = Classifier(folder, name, predictor)
        unlike = json.loads((folder / "about.json").read_text())["promises"]["unlike"]
    part = dataset.test if dataset.test is not None else dataset.val
    usual = predictor.raw(np.asarray(part.images)[:images])
    yield f"| (test images) | {100 * (usual[:, -1] > unlike['limit']).mean():.1f} % | | |"
    for place in folders:
        files = sorted(file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES)
        drawn = np.random.default_rng(0).permutation(len(files))[:images]
        own = predictor.raw([model.pixels(files[number]) for number in drawn])
        detected = (own[:, -1] > unlike["limit"]).mean()
        area = area_above(usual[:, -1], own[:, -1])
        plain = area_above(-usual[:, :-1].max(axis=1), -own[:, :-1].max(axis=1))
        yield f"| {place.name} | {100 * detected:.1f} % | {area:.3f} | {plain:.3f} |"
    yield f"\nScore: {unlike['method']}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+")
    parser.add_argument("--storage", type=Path, default=Path("searches"))
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--unlike", type=Path, nargs="+", default=[])
    parser.add_argument("--images", type=int, default=1000)
    args = parser.parse_args()
    for name in args.names:
        if args.unlike:
            print(f"\n### {name}\n\n| images | reported | area | by the maximum probability |")
            print("|---|---|---|---|")
            for row in unlike_rows(name, args.storage, args.unlike, args.images):
                print(row, flush=True)
            continue
        chances, labels = held_out(name, args.storage)
        if args.save:
            np.savez(args.save, chances=chances, labels=labels)
        right = (chances.argmax(axis=1) == labels).mean()
        print(f"\n### {name}: {len(labels):,} images, accuracy {100 * right:.1f} %\n")
        print("| allowed errors | more errors than allowed | answered | no promise |")
        print("|---|---|---|---|")
        for row in selective_rows(chances, labels, args.splits):
            print(row, flush=True)
        print("\n| coverage | measured (95 % of splits) | of the worst class | classes in a set |")
        print("|---|---|---|---|")
        for row in set_rows(chances, labels, args.splits):
            print(row, flush=True)


if __name__ == "__main__":
    main()
