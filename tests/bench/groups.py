"""A planted shortcut: is the worst group found, and recognised better if a search asks for it?

    python -m tests.bench.groups --data-root FOLDER [--seeds 3] [--trials 8] [--images 5000]

Noisy digits of MNIST in two classes, 3 or 5 and 8 or 9, with a mark in a corner whose colour agrees
with the class in nine of ten images. One search ranks trials by accuracy, and trains without regard
to groups; the other has the whole space `groups` and ranks by worst-group accuracy. Both have the
same number of trials. The worst group, a class with one of the colours, is measured on the same
test images for both, and so is the share of the positive attribution (integrated gradients) inside
the mark. Prints Markdown.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from search.journal.result import SearchResult
from search.journal.store import home
from search.trained.answer import find_answer
from search.trained.export import config_of, dataset_of, local_checkpoint
from tests.support.shortcut import write_marked_images
from trainables.config import DataConfig
from trainables.datasets.load import load
from trainables.explanations.explain import COMPUTE, load_explainable

DIGITS, CLASSES = (3, 5, 8, 9), ("3 or 5", "8 or 9")
MARK = 4
"""The side of the mark, in pixels."""
EXPLAINED = 100
"""The number of test images that are explained."""
WAYS = {
    "accuracy": ("--set", "train.sampling=shuffled", "--set", "train.group_dro=0"),
    "worst_group_accuracy": (),
}
"""The options of each search besides --metric."""


def write_data(folder: Path, groups: Path, root: str, images: int, seed: int) -> None:
    """Write noisy digits with marks as folders of classes, and the file of their groups."""
    mnist = load(DataConfig(name="mnist", root=root)).train
    generator = np.random.default_rng(seed)
    rows = generator.permutation(np.flatnonzero(np.isin(mnist.targets, DIGITS)))[:images]
    pixels = np.asarray(mnist.images[np.sort(rows)])[..., 0] * 0.5 + 60
    noisy = np.clip(pixels + generator.normal(0, 90, pixels.shape), 0, 255).astype(np.uint8)
    labels = (mnist.targets[np.sort(rows)] >= 8).astype(np.int64)
    write_marked_images(folder, groups, noisy, labels, CLASSES, side=MARK, seed=seed)


def searched(work: Path, name: str, metric: str, trials: int, seed: int) -> dict[str, Any]:
    """Run a search in a process of its own, and return its `--json` line."""
    command = [
        *(sys.executable, "-m", "search.run", "--space", "groups", "--data", "folder:images"),
        *("--groups", "groups.csv", "--metric", metric, "--trials", trials, "--seed", seed),
        *("--executor", "inline", "--set", "data.test_fraction=0.4", "--name", name, "--json"),
        *("--storage", "searches", "--tracking", "sqlite:///m.db", *WAYS[metric]),
    ]
    done = subprocess.run(
        list(map(str, command)), cwd=work, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def share_in_mark(storage: Path, name: str) -> float:
    """Return the share of the positive attribution of the answer that is inside the mark."""
    place = home(storage, name)
    result = SearchResult.read(place.opened())
    trial = find_answer(result, place, storage, None)
    config = config_of(result, trial)
    dataset = dataset_of(result, config)
    assert dataset.test is not None
    images = np.asarray(dataset.test.images[:EXPLAINED])
    with load_explainable(config, dataset, local_checkpoint(place, trial)) as model:
        guesses = model.predict(images).argmax(axis=1)
        maps = np.maximum(COMPUTE["integrated_gradients"](model, images, guesses), 0)
    return float(maps[:, :MARK, :MARK].sum() / maps.sum())


def row(seed: int, metric: str, summary: dict[str, Any], share: float) -> str:
    """Return a row of the table."""
    best, worst = summary["best"], summary["groups"]["worst"]
    return (
        f"| {seed} | {metric} | {best['test_accuracy']:.1%} | {worst['class']}, {worst['group']}: "
        f"{worst['accuracy']:.1%} ({worst['low']:.1%} to {worst['high']:.1%}, {worst['images']}) | "
        f"{share:.1%} | {best['params'].get('train.sampling', 'shuffled')}, "
        f"{best['params'].get('train.group_dro', 0)} | {summary['wall_s']:.0f} |"
    )


def main() -> None:
    """Run the searches, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", required=True, help="the folder of MNIST")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--images", type=int, default=5000)
    words = parser.parse_args()
    print("| seed | metric | accuracy | worst group of test images | in the mark | chosen | s |")
    print("|---|---|---|---|---|---|---|")
    gains = []
    for seed in range(words.seeds):
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            write_data(work / "images", work / "groups.csv", words.data_root, words.images, seed)
            lowest = []
            for metric in WAYS:
                summary = searched(work, metric.replace("_", "-"), metric, words.trials, seed)
                share = share_in_mark(work / "searches", metric.replace("_", "-"))
                print(row(seed, metric, summary, share), flush=True)
                lowest.append(summary["groups"]["worst"]["accuracy"])
            gains.append(100 * (lowest[1] - lowest[0]))
    low, high = min(gains), max(gains)
    print(f"\nThe worst group gains {np.mean(gains):.1f} points ({low:.1f} to {high:.1f}).")
    area = MARK**2 / 28**2
    print(f"The mark covers {area:.1%} of an image.")


if __name__ == "__main__":
    main()
