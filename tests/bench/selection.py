"""Trust in `search.select` and `search.refine`.

The race and its interval are tried on learning curves recorded with several seeds and on candidates
whose true values are known; and so is what is called a clear effect where there is none.

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.decisions.refinement import observations
from search.decisions.selection import Candidate, Race, decide
from search.decisions.space_refinement import narrow
from search.journal.result import SearchResult, TrialResult
from search.select import best_few
from search.space import Choice, SearchSpace
from search.statistics import of_images
from trainables.checkpoints.lineage import training_key
from trainables.config import TrialConfig

Floats = NDArray[np.float64]
EXACT = 10**9
"""So many images that it does not show that accuracies are whole numbers of them."""
IMAGES, RECORDED = 359, 10_000
"""The images of digits' validation part, and those that the recorded accuracies are of."""
BEHIND = 3
"""Deviations behind the best, from which on a candidate is clearly worse."""
LENGTHS = (10, 20, 30)
Draw = Callable[[np.random.Generator], tuple[Floats, Floats, Floats]]
"""Accuracies, (candidates, seeds); the candidates' true values; their deviations between seeds."""


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

    def line_of_equals(self, name: str) -> str:
        """Return a row of the table of equal candidates."""
        held, used = (100 * share / self.races for share in (self.held, self.trainings))
        return f"| {name} | {share_text(self.wrong, self.races)} | {held:.1f} % | {used:.1f} % |"


def share_text(found: int, among: int) -> str:
    """Return a share with its 95 % interval: `1.2 % (0.8 to 1.8)`."""
    low, high = of_images(found / among, among)
    return f"{100 * found / among:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def race_of(accuracies: Floats, images: int) -> tuple[Race, int, list[tuple[int, int]]]:
    """Run a race over these, seed after seed.

    Returns the race when it is over, the number of trainings, and which candidate left behind
    which.
    """
    names = [f"t{number}" for number in range(len(accuracies))]
    race, trainings = Race(names, accuracies.shape[1], images=images), 0
    left: list[tuple[int, int]] = []
    for seed in range(accuracies.shape[1]):
        for name in race.alive:
            race.scores[name][seed + 1] = float(accuracies[names.index(name), seed])
            trainings += 1
        for name, (leader, pair) in race.behind().items():
            race.out[name], race.worse[name] = "clearly worse", pair
            left.append((names.index(name), names.index(leader)))
    return race, trainings, left


def study(draw: Draw, races: int, images: int = EXACT, seed: int = 0) -> Tally:
    """Draw, race, decide, and compare with the truth.

    The candidates take times in random order, so ties are as hard as they can be.
    """
    generator, tally = np.random.default_rng(seed), Tally()
    for _ in range(races):
        accuracies, truth, deviations = draw(generator)
        race, trainings, left = race_of(accuracies, images)
        times = generator.permutation(len(truth)) + 1.0
        known = {
            name: Candidate("m", 0.0, float(time), name)
            for name, time in zip(race.candidates, times, strict=True)
        }
        verdict = decide(race, known)
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


def synthetic(
    candidates: int,
    seeds: int,
    spread: float,
    *,
    uneven: float = 0.0,
    points: float = 1.0,
    steady: int = 0,
    images: int = EXACT,
) -> Draw:
    """Return a draw of candidates around 0.9 whose true values lie `spread` deviations apart.

    Each has a deviation between seeds of so many points (with `uneven`, of that times a factor of
    its own; the first `steady` of none, as baselines), some of which all others share: a seed's
    order of images and weights helps all or none. Accuracies are whole numbers of images.
    """
    unit = points / 100

    def draw(generator: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        truth = 0.9 + unit * spread * generator.normal(size=candidates) - 2 * unit * spread
        deviations, shared = (
            unit * np.exp(uneven * generator.normal(size=candidates)),
            0.3 * unit * generator.normal(size=seeds),
        )
        luck = shared + deviations[:, None] * generator.normal(size=(candidates, seeds))
        luck[:steady] = 0
        return whole(truth[:, None] + luck, images), truth, np.hypot(deviations, 0.3 * unit)

    return draw


def whole(accuracies: Floats, images: int) -> Floats:
    """Return the nearest accuracies that so many images may give."""
    return (
        np.clip(np.round(accuracies * images), 0, images) / images
        if images != EXACT
        else accuracies
    )


def copied(draw: Draw, copies: int) -> Draw:
    """Return the draw with so many copies of candidates among them.

    A parameter that does nothing makes such copies.
    """

    def drawn(generator: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        accuracies, truth, deviations = draw(generator)
        rows = np.r_[np.arange(len(truth)), generator.integers(0, len(truth), copies)]
        return accuracies[rows], truth[rows], deviations[rows]

    return drawn


def chosen(draw: Draw, candidates: int, lengths: int) -> Draw:
    """Return a draw of those that a selection takes as candidates.

    Each was found by trials of so many lengths, all as good.
    """
    configs = [
        TrialConfig().override({"optimizer.lr": 0.001 * (number + 1), "epochs": length})
        for number in range(candidates)
        for length in LENGTHS[:lengths]
    ]
    result = SearchResult()
    for number, config in enumerate(configs):
        result.trials[f"t{number}"] = TrialResult(
            f"t{number}",
            {},
            config.to_dict(),
            "completed",
            ended_ms=1,
            training_key=training_key(config),
        )

    def drawn(generator: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        found, truth, deviations = draw(generator)
        for number, trial in enumerate(result.trials.values()):
            trial.epochs = curve(float(found[number // lengths, 0]), trial.config["epochs"])
        rows = [int(trial.trial[1:]) // lengths for trial in best_few(result, 5)]
        return found[rows, 1:], truth[rows], deviations[rows]

    return drawn


def curve(value: float, length: int) -> dict[int, dict[str, float]]:
    """Return the epochs of a training up to this length.

    It has this value from the first of the lengths on.
    """
    return {
        epoch: {"val/accuracy": value, "val/loss": 1 - value}
        for epoch in LENGTHS
        if epoch <= length
    }


EFFECTS = {
    "optimizer.lr": (0.001, 0.01, 0.1),
    "batch_size": (32, 64, 128),
    "model.layers": (5, 10, 15),
    "model.filter_size": (3, 5, 7),
}
CLEAR = ("narrowed", "finer", "dropped", "kept")
"""Changes that a parameter sees only if its effect is clear."""


def clear_effects(trainings: int, lengths: int, rounds: int, seed: int = 0) -> int:
    """Return the number of searches in which a refinement takes chance for a clear effect.

    Each search has so many trainings, and each of them so many lengths.
    """
    generator, found = np.random.default_rng(seed), 0
    domains = {path: Choice(*options) for path, options in EFFECTS.items()} | {
        "epochs": Choice(*LENGTHS[: max(2, lengths)])
    }
    space = SearchSpace(domains, base={"model.name": "deep_cnn"})
    points = [
        dict(zip(EFFECTS, values, strict=True))
        for values in np.stack(np.meshgrid(*EFFECTS.values()), -1)
        .reshape(-1, len(EFFECTS))
        .tolist()
    ]
    for _ in range(rounds):
        result = SearchResult()
        for row in generator.permutation(len(points))[:trainings]:
            value = float(0.9 + 0.01 * generator.normal())
            for length in LENGTHS[:lengths]:
                name, params = (
                    f"t{len(result.trials)}",
                    {path: type(EFFECTS[path][0])(one) for path, one in points[row].items()}
                    | {"epochs": length},
                )
                result.trials[name] = TrialResult(
                    name,
                    params,
                    {"epochs": length},
                    "completed",
                    epochs=curve(value, length),
                    training_key=f"{row}",
                )
        _, changes = narrow(space, observations(result), result.ranking[0].params)
        found += any(change.kind in CLEAR or change.is_clear for change in changes)
    return found


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
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--curves", type=Path, help="recorded learning curves")
    parser.add_argument("--races", type=int, default=2000)
    parser.add_argument("--refinements", type=int, default=1000)
    args = parser.parse_args(argv)
    print_equals(args.races)
    print_unequal(args.races, recorded(args.curves) if args.curves else {})
    print("\n| search without any effect | a refinement calls one clear |\n|---|---|")
    for trainings, lengths in ((27, 1), (27, 2), (27, 3), (81, 3)):
        found = clear_effects(trainings, lengths, args.refinements)
        print(
            (
                f"| {trainings} trainings, {lengths} length{'s' * (lengths > 1)} of each | "
                f"{share_text(found, args.refinements)} |"
            ),
            flush=True,
        )


def print_equals(races: int) -> None:
    """Print how often a race between equals loses a candidate."""
    print("| equal candidates | somebody leaves | interval holds | trainings |")
    print("|---|---|---|---|")
    rows: dict[str, tuple[Draw, int]] = {}
    for count in (2, 5):
        rows[f"{count}, 5 seeds"] = synthetic(count, 5, 0.0), EXACT
        for points in (1.0, 0.3):
            rows[f"{count}, 5 seeds, {IMAGES} images, deviation {points:g}"] = (
                synthetic(count, 5, 0.0, points=points, images=IMAGES),
                IMAGES,
            )
        for lengths in (2, 3):
            drawn = chosen(synthetic(count, 6, 0.0, images=IMAGES), count, lengths)
            rows[f"{count} trainings of {lengths} lengths, 5 seeds, {IMAGES} images"] = (
                drawn,
                IMAGES,
            )
    rows[f"2, 2 seeds, {IMAGES} images"] = synthetic(2, 2, 0.0, images=IMAGES), IMAGES
    rows["10, 3 seeds"] = synthetic(10, 3, 0.0), EXACT
    rows["5, 3 of them copies, 5 seeds"] = copied(synthetic(2, 5, 0.0), 3), EXACT
    rows[f"5, 3 of them copies, 5 seeds, {IMAGES} images"] = (
        copied(synthetic(2, 5, 0.0, images=IMAGES), 3),
        IMAGES,
    )
    for steady in (3, 4):
        drawn = synthetic(5, 5, 0.0, steady=steady, images=IMAGES)
        rows[f"{5 - steady} and {steady} that no seed changes, 5 seeds, {IMAGES} images"] = (
            drawn,
            IMAGES,
        )
    rows["5, deviations from a half to twice, 5 seeds"] = synthetic(5, 5, 0.0, uneven=0.7), EXACT
    rows["5, deviations from a quarter to four times, 5 seeds"] = (
        synthetic(5, 5, 0.0, uneven=1.4),
        EXACT,
    )
    for name, (draw, images) in rows.items():
        print(study(draw, races, images).line_of_equals(name), flush=True)


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
    print(f"\n| {' | '.join(titles)} | one seed's optimism, points |")
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
