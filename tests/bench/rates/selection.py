"""How often `search.select` drops one of several equal candidates, and its interval misses.

Candidates around 0.9 of known true value; each has a deviation between seeds.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from search.decisions.selection import Candidate, Race, decide
from search.journal.events import Selected
from search.journal.result import SearchResult, TrialResult
from search.operations.select import best_few
from tests.bench.rates.case import Case, Promise
from trainables.config import TrialConfig, training_key
from trainables.tasks.classification.entry import ENTRY as CLASSIFICATION

Floats = NDArray[np.float64]
EXACT = 10**9
"""So many images that it does not show that accuracies are whole numbers of them."""
IMAGES = 359
"""The images of digits' validation part."""
LENGTHS = (10, 20, 30)
Draw = Callable[[np.random.Generator], tuple[Floats, Floats, Floats]]
"""Accuracies, (candidates, seeds); the candidates' true values; their deviations between seeds."""
PROMISES: Mapping[str, Promise] = {
    "one is dropped": Promise("error rate", 0.05),
    "interval": Promise("interval", 0.95),
}


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


def verdict_of(race: Race, generator: np.random.Generator) -> Selected:
    """Decide a race that is over.

    The candidates take times in random order, so ties are as hard as they can be.
    """
    times = generator.permutation(len(race.candidates)) + 1.0
    known = {
        name: Candidate("m", 0.0, float(time), name)
        for name, time in zip(race.candidates, times, strict=True)
    }
    return decide(race, known, CLASSIFICATION.primary)


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


def played(draw: Draw, images: int) -> Callable[[np.random.Generator], dict[str, bool | None]]:
    """Return the play of a race between equals: does one leave, does the interval hold?"""

    def play(generator: np.random.Generator) -> dict[str, bool | None]:
        accuracies, truth, _ = draw(generator)
        race, _, left = race_of(accuracies, images)
        verdict = verdict_of(race, generator)
        true = truth[race.candidates.index(verdict.candidate)]
        return {
            "one is dropped": any(truth[one] >= truth[leader] for one, leader in left),
            "interval": bool(verdict.expected.low <= true <= verdict.expected.high),
        }

    return play


def cases() -> list[Case]:
    """Return the cases: races between equals."""
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
    rows["30, 5 seeds, 5,000 images, deviation 0.3"] = (
        synthetic(30, 5, 0.0, points=0.3, images=5000),
        5000,
    )
    rows["5, 5 seeds, 20 images, deviation 5"] = synthetic(5, 5, 0.0, points=5.0, images=20), 20
    return [
        Case("select", f"equal candidates: {name}", PROMISES, played(draw, images), 2000)
        for name, (draw, images) in rows.items()
    ]
