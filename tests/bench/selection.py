"""How good a candidate `search.select` chooses, and what that costs.

It is tried on learning curves recorded with several seeds and on candidates whose true values are
known. How often it errs is measured by `tests.bench.rates`.

    python -m tests.bench.selection                       # candidates of known true value
    python -m tests.bench.selection --curves FILE         # and recorded ones

The recorded ones are DeepOBS's, a JSON object a line, gzipped.

A pick counts as good if it is the truly best or within noise of it: behind by no more than one
training's deviation between seeds, which is what a single training with another seed would change.
Clearly worse is a candidate that is truly behind the best by three deviations. The cost is that of
the race in trainings, beside those without a race.
"""

import argparse
import gzip
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.bench.rates.selection import (
    EXACT,
    IMAGES,
    Draw,
    Floats,
    race_of,
    synthetic,
    verdict_of,
)

RECORDED = 10_000
"""The images that the recorded accuracies are of."""
BEHIND = 3
"""Deviations behind the best, from which on a candidate is clearly worse."""


@dataclass
class Tally:
    """Sums over many races.

    The share of good picks, of intervals that held the true value, and of a full race's trainings.
    """

    races: int = 0
    best: int = 0
    good: int = 0
    held: int = 0
    wrong: int = 0
    """Races in which a candidate left that is truly no worse than the one that led."""
    worse: int = 0
    worse_left: int = 0
    """Candidates that are clearly worse, and those of them that left before the race's end."""
    trainings: float = 0.0
    optimism: float = 0.0
    """Of the highest first value over that candidate's true one, in the mean: what a search of one
    seed would have claimed too much.
    """

    def line(self, name: str) -> str:
        """Return a row of the table of unequal candidates."""
        left = f"{100 * self.worse_left / self.worse:.0f} %" if self.worse else ""
        shares = [
            f"{100 * share / self.races:.1f} %"
            for share in (self.best, self.good, self.wrong, self.held)
        ]
        return (
            f"| {name} | {' | '.join(shares)} | {left} | "
            f"{100 * self.trainings / self.races:.0f} % | "
            f"{100 * self.optimism / self.races:.2f} |"
        )


def study(draw: Draw, races: int, images: int = EXACT, seed: int = 0) -> Tally:
    """Draw, race, decide, and compare with the truth."""
    generator, tally = np.random.default_rng(seed), Tally()
    for _ in range(races):
        accuracies, truth, deviations = draw(generator)
        race, trainings, left = race_of(accuracies, images)
        verdict = verdict_of(race, generator)
        chosen, best = race.candidates.index(verdict.candidate), int(truth.argmax())
        first = int(accuracies[:, 0].argmax())
        worse = truth[best] - truth > BEHIND * np.maximum(deviations, deviations[best])
        tally.races += 1
        tally.best += chosen == best
        tally.good += bool(truth[best] - truth[chosen] <= max(deviations[best], deviations[chosen]))
        tally.held += bool(verdict.expected.low <= truth[chosen] <= verdict.expected.high)
        tally.wrong += any(truth[one] >= truth[leader] for one, leader in left)
        tally.worse += int(worse.sum())
        tally.worse_left += sum(bool(worse[one]) for one, _ in left)
        tally.trainings += trainings / accuracies.size
        tally.optimism += float(accuracies[first, 0] - truth[first])
    return tally


def recorded(path: Path) -> dict[str, Floats]:
    """Return, by task, the accuracies of the candidates that have several seeds.

    Each is the best over the epochs of a candidate with a seed, (candidates, seeds).
    """
    found: dict[str, dict[tuple[str, float], dict[int, float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    with gzip.open(path, "rt") as lines:
        for run in map(json.loads, lines):
            found[run["problem"]][run["optimizer"], run["lr"]][run["seed"]] = max(
                run["test_accuracy"]
            )
    return {
        task: np.array(
            [
                [seeds[seed] for seed in sorted(seeds)]
                for seeds in candidates.values()
                if len(seeds) > 1
            ]
        )
        for task, candidates in found.items()
    }


def resampled(table: Floats, seeds: int) -> Draw:
    """Return a draw of so many of the recorded seeds, in random order, for all candidates.

    The truth is the mean over all of them.
    """

    def draw(generator: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        chosen = generator.permutation(table.shape[1])[:seeds]
        return table[:, chosen], table.mean(axis=1), table.std(axis=1, ddof=1)

    return draw


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--curves", type=Path, help="recorded learning curves")
    parser.add_argument("--races", type=int, default=2000)
    args = parser.parse_args(argv)
    print_unequal(args.races, recorded(args.curves) if args.curves else {})


def print_unequal(races: int, curves: dict[str, Floats]) -> None:
    """Print how good the chosen candidate is, and what it costs."""
    titles = [
        "candidates",
        "the best",
        "the best, or within noise",
        "a better one leaves",
        "interval holds",
        "clearly worse that leave",
        "trainings",
    ]
    print(f"| {' | '.join(titles)} | one seed's optimism, points |")
    print("|---|---|---|---|---|---|---|---|")
    for task, table in curves.items():
        for seeds in (3, 5):
            tally = study(resampled(table, seeds), races, RECORDED)
            print(
                tally.line(f"{task}: {len(table)} optimizers, {seeds} of {table.shape[1]} seeds"),
                flush=True,
            )
    rows: dict[str, tuple[Draw, int]] = {}
    for count in (2, 5):
        for spread in (0.5, 1.0, 3.0, 10.0):
            drawn = synthetic(count, 5, spread, points=1.0 if spread < 10 else 0.3, images=IMAGES)
            rows[f"{count}, {spread:g} apart, 5 seeds, {IMAGES} images"] = drawn, IMAGES
    rows["5, 1 apart, 5 seeds"] = synthetic(5, 5, 1.0), EXACT
    rows["5, 3 apart, 5 seeds"] = synthetic(5, 5, 3.0), EXACT
    rows["5, 1 apart, deviations from a half to twice, 5 seeds"] = (
        synthetic(5, 5, 1.0, uneven=0.7),
        EXACT,
    )
    rows["5, 1 apart, 3 seeds"] = synthetic(5, 3, 1.0), EXACT
    rows["5, 1 apart, 10 seeds"] = synthetic(5, 10, 1.0), EXACT
    for name, (draw, images) in rows.items():
        print(study(draw, races, images).line(name), flush=True)


if __name__ == "__main__":
    main()
