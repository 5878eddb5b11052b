"""How far `search.select` can be trusted: its race and its interval, on learning curves recorded with several seeds and on candidates whose true
values are known.

    python -m tests.bench.selection                       # candidates of known true value
    python -m tests.bench.selection --curves FILE         # and recorded ones: DeepOBS's, a JSON object a line, gzipped

A pick counts as good if it is the truly best or within noise of it: behind by no more than one training's deviation between seeds, which
is what a single training with another seed would change. The cost is that of the race in trainings, beside those without a race.
"""

import argparse
import gzip
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.selection import Candidate, Race, decide

Floats = NDArray[np.float64]
IMAGES = 10**9
"""Accuracies are no whole numbers of images here."""
Draw = Callable[[np.random.Generator], tuple[Floats, Floats, Floats]]
"""Accuracies, (candidates, seeds); the candidates' true values; their deviations between seeds."""


@dataclass
class Tally:
    """Over many races: the share of good picks, of intervals that held the true value, and of a full race's trainings."""

    races: int = 0
    best: int = 0
    good: int = 0
    held: int = 0
    trainings: float = 0.0
    optimism: float = 0.0
    """Of the highest first value over that candidate's true one, in the mean: what a search of one seed would have claimed too much."""

    def line(self, name: str) -> str:
        """A row of the table."""
        good, held, best = (f"{100 * share / self.races:.1f} %" for share in (self.good, self.held, self.best))
        return f"| {name} | {best} | {good} | {held} | {100 * self.trainings / self.races:.0f} % | {100 * self.optimism / self.races:.2f} |"


def race_of(accuracies: Floats) -> tuple[Race, int]:
    """Run a race over these, seed after seed; the race when it is over, and the number of trainings."""
    names = [f"t{number}" for number in range(len(accuracies))]
    race, trainings = Race(names, accuracies.shape[1]), 0
    for seed in range(accuracies.shape[1]):
        for name in race.alive:
            race.scores[name][seed + 1] = float(accuracies[names.index(name), seed])
            trainings += 1
        for name, (_, pair) in race.behind().items():
            race.out[name], race.worse[name] = "clearly worse", pair
    return race, trainings


def study(draw: Draw, races: int, seed: int = 0) -> Tally:
    """Draw, race, decide, and compare with the truth. The candidates take times in random order, so ties are as hard as they can be."""
    generator, tally = np.random.default_rng(seed), Tally()
    for _ in range(races):
        accuracies, truth, deviations = draw(generator)
        race, trainings = race_of(accuracies)
        times = generator.permutation(len(truth)) + 1.0
        known = {name: Candidate("m", 0.0, float(time), name) for name, time in zip(race.candidates, times, strict=True)}
        verdict = decide(race, known, IMAGES)
        chosen, best = race.candidates.index(verdict.candidate), int(truth.argmax())
        first = int(accuracies[:, 0].argmax())
        tally.races += 1
        tally.best += chosen == best
        tally.good += bool(truth[best] - truth[chosen] <= max(deviations[best], deviations[chosen]))
        tally.held += bool(verdict.expected.low <= truth[chosen] <= verdict.expected.high)
        tally.trainings += trainings / accuracies.size
        tally.optimism += float(accuracies[first, 0] - truth[first])
    return tally


def synthetic(candidates: int, seeds: int, spread: float, *, uneven: float = 0.0) -> Draw:
    """Candidates around 0.9 whose true values lie `spread` points apart in deviation, each with a deviation between seeds of one point (with
    `uneven`, of one times a factor of its own), some of which all share: a seed's order of images and weights helps all or none.
    """

    def draw(generator: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        truth = 0.9 + 0.01 * spread * generator.normal(size=candidates) - 0.02 * spread
        deviations = 0.01 * np.exp(uneven * generator.normal(size=candidates))
        shared = 0.003 * generator.normal(size=seeds)
        return truth[:, None] + shared + deviations[:, None] * generator.normal(size=(candidates, seeds)), truth, np.hypot(deviations, 0.003)

    return draw


def recorded(path: Path) -> dict[str, Floats]:
    """By task: the best accuracy over the epochs of each candidate with each seed, (candidates, seeds), of those that have several seeds."""
    found: dict[str, dict[tuple[str, float], dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    with gzip.open(path, "rt") as lines:
        for run in map(json.loads, lines):
            found[run["problem"]][run["optimizer"], run["lr"]][run["seed"]] = max(run["test_accuracy"])
    return {task: np.array([[seeds[seed] for seed in sorted(seeds)] for seeds in candidates.values() if len(seeds) > 1]) for task, candidates in found.items()}


def resampled(table: Floats, seeds: int) -> Draw:
    """So many of the recorded seeds, in random order, for all candidates; the truth is the mean over all of them."""

    def draw(generator: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        chosen = generator.permutation(table.shape[1])[:seeds]
        return table[:, chosen], table.mean(axis=1), table.std(axis=1, ddof=1)

    return draw


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, help="recorded learning curves")
    parser.add_argument("--races", type=int, default=2000)
    args = parser.parse_args(argv)
    print("| candidates | the best | the best, or within noise | interval holds | trainings | one seed's optimism, points |")
    print("|---|---|---|---|---|---|")
    for task, table in recorded(args.curves).items() if args.curves else ():
        for seeds in (3, 5):
            print(study(resampled(table, seeds), args.races).line(f"{task}: {len(table)} optimizers, {seeds} of {table.shape[1]} seeds"))
    for count in (3, 5):
        for spread in (0.0, 0.5, 1.0, 3.0):
            print(study(synthetic(count, 5, spread), args.races).line(f"{count}, true values {spread:g} deviations apart, 5 seeds"))
    print(study(synthetic(5, 5, 1.0, uneven=0.7), args.races).line("5, the same 1 apart, deviations from a half to twice"))
    print(study(synthetic(5, 3, 1.0), args.races).line("5, 1 apart, 3 seeds"))
    print(study(synthetic(5, 10, 1.0), args.races).line("5, 1 apart, 10 seeds"))


if __name__ == "__main__":
    main()
