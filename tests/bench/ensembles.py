"""The answer of a search of few images: the best trial, or an ensemble of the best ones.

    python -m tests.bench.ensembles --data folder:FLOWERS --weights FOLDER --budget 3m

Searches each data set with the space `auto`, and predicts its test images with the best networks.
The test images are drawn many times into images that only choose (as many as the search has for
validation) and images that only test, so that one search gives the mean over many validation sets.
Prints Markdown: the test accuracy of the trial that is the best on the images that choose, of the
ensembles of the best 2 to 8 on these, and of the trial that is the best by the test itself; and the
accuracy of the search's own answer on all test images.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cluster.exit_codes import ExitCode
from search.journal.result import SearchResult, TrialResult
from search.journal.store import home
from search.trained.export import config_of, dataset_of, local_checkpoint
from tests.bench.commands import execute, scratch
from trainables.catalog.models import MODELS
from trainables.evaluation.evaluate import predictions

SIZES = (2, 3, 5, 8)
DRAWS = 200
MOST = 12
"""The best trials by validation that are compared; to predict with all would take too long."""
Chances = NDArray[np.float64]


def predicted(folder: Path) -> tuple[Chances, NDArray[np.int64], int]:
    """Predict the test images with the best networks of a search that keeps its checkpoints.

    Returns:
        The probabilities, (trials, images, classes), the classes of the images, and the number of
        validation images of the search.
    """
    result, place = SearchResult.read(folder), home(folder.parent, folder.name)
    trials = [trial for trial in result.distinct if is_network(trial)][:MOST]
    configs = [config_of(result, trial) for trial in trials]
    dataset = dataset_of(result, configs[0])
    assert dataset.test is not None
    each = [
        predictions(config, dataset, dataset.test, local_checkpoint(place, trial))
        for trial, config in zip(trials, configs, strict=True)
    ]
    return np.stack(each), dataset.test.targets, len(dataset.val)


def is_network(trial: TrialResult) -> bool:
    """True if a trial has a network, as the members of ensembles have."""
    return MODELS[trial.config["model"]["name"]].has_network


def accuracies(each: Chances, classes: NDArray[np.int64], choosing: int) -> dict[str, float]:
    """Return the mean test accuracy of each way to answer, over many draws.

    Args:
        each: the probabilities of each trial, (trials, images, classes).
        classes: the class of each image, (images,).
        choosing: the number of images that choose.
    """
    generator, right = np.random.default_rng(0), each.argmax(axis=2) == classes
    found: dict[str, list[float]] = {}
    for _ in range(DRAWS):
        rows = generator.permutation(len(classes))
        chosen, tested = rows[:choosing], rows[choosing:]
        order = np.argsort(-right[:, chosen].mean(axis=1), kind="stable")
        values = {"best trial": right[order[0], tested].mean()}
        for size in SIZES:
            mean = each[order[:size]][:, tested].mean(axis=0)
            values[f"ensemble of {size}"] = (mean.argmax(axis=1) == classes[tested]).mean()
        values["best by the test"] = right[:, tested].mean(axis=1).max()
        for name, value in values.items():
            found.setdefault(name, []).append(float(value))
    return {name: float(np.mean(values)) for name, values in found.items()}


def measure(data: str, budget: str, seed: int, weights: Path) -> dict[str, float]:
    """Search a data set, and compare the ways to answer."""
    with scratch() as folder:
        words = ["search.run", "--data", data, "--space", "auto", "--weights", str(weights)]
        words += ["--budget", budget, "--seed", str(seed), "--keep", "all", "--name", "s"]
        environment = {"XDG_CACHE_HOME": str(folder / "cache")}
        execute(
            [*words, "--device", "cpu"],
            folder,
            environment,
            allowed=(ExitCode.SUCCESS, ExitCode.AT_CHANCE),
        )
        each, classes, validation = predicted(folder / "searches" / "s")
        found = {"trials": float(len(each)), **accuracies(each, classes, validation)}
        result = SearchResult.read(folder / "searches" / "s")
        return found | {"the search's answer": float(result.test["accuracy"])}


def table(rows: dict[str, dict[str, float]]) -> Iterator[str]:
    """Yield the lines of the table: a row for each search."""
    names = list(next(iter(rows.values())))
    yield "| search | " + " | ".join(names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for title, values in rows.items():
        cells = [f"{values[name]:.{0 if name == 'trials' else 3}f}" for name in names]
        yield f"| {title} | {' | '.join(cells)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", action="append", required=True, help="as for search.run")
    parser.add_argument("--weights", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--budget", default="3m")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    rows = {
        f"{data.rpartition('/')[2]}, seed {seed}": measure(data, args.budget, seed, args.weights)
        for data in args.data
        for seed in range(args.seeds)
    }
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
