"""How often `search.compare` calls a search better that is not.

    python -m tests.bench.rates --only compare
    python -m tests.bench.rates.compare             # how often it sees that a search is better

Each search has trials of known true value. What is measured of a trial is this value and luck: on
each fold, with each fresh seed, or on the validation images. The best is chosen by what is measured
and compared by the same.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.decisions.selection import Candidate, decide
from search.facts.comparison import compare_searches
from search.journal.events import Selecting, Started
from search.journal.result import SearchResult, Selection, TrialResult
from tests.bench.rates.case import Case, Promise, Tally, measure
from tests.bench.rates.selection import race_of
from tests.support.played import started_event
from trainables.config import TrialConfig
from trainables.tasks.classification.entry import ENTRY as CLASSIFICATION

ERROR, INTERVAL, SEEN = (
    Promise("error rate", 0.05),
    Promise("interval", 0.95),
    Promise("power", 0.8),
)
FOLDS = SEEDS = 5
CONFIG = TrialConfig().to_dict()
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Compared:
    """Searches that are compared by what is measured of their trials."""

    by: str
    """`folds`, `seeds` or `images`."""
    searches: Sequence[Sequence[float]]
    """The true values of the trials of each."""
    images: int = 1000
    """The number of validation images, of all folds together."""
    deviation: float = 0.01
    """The deviation between trainings of a trial, on a fold or with a seed."""
    epochs: Sequence[int] = ()
    """The epochs of each trial of a search, all as good; one where nothing is said."""

    @property
    def repetitions(self) -> int:
        """How often it is played: seldom where it takes long, and hardly ever errs."""
        trainings = sum(map(len, self.searches)) * max(self.epochs, default=1)
        return 2000 if trainings <= 40 else 500 if trainings <= 200 else 300

    def play(self, generator: np.random.Generator) -> dict[str, bool | None]:
        """Compare once: is one called better that is not, do intervals hold, is a lead seen?"""
        shared = 0.03 * generator.normal(size=FOLDS)  # what makes a fold hard, or a seed lucky
        results = {}
        for number, truths in enumerate(self.searches):
            length = self.epochs[number] if self.epochs else 1
            values = self.measured(np.repeat(truths, length), shared, generator)
            name = f"s{number}"
            results[name] = self.result(name, values.reshape(len(truths), length, -1))
        found = []
        for contrast in compare_searches(list(results.values())).contrasts:
            leader, other = (self.truth(results[name]) for name in (contrast.leader, contrast.name))
            lead, low, high = leader - other, contrast.low, contrast.high
            held = None if low is None or high is None else low - 1e-9 <= lead <= high + 1e-9
            found.append((bool(contrast.is_beyond_noise), lead, held))
        return {
            "called better": any(is_beyond and lead <= 0 for is_beyond, lead, _ in found),
            "interval": None if found[0][2] is None else all(held for *_, held in found),
            "seen": any(is_beyond and lead > 0 for is_beyond, lead, _ in found),
        }

    def measured(self, truths: Floats, shared: Floats, generator: np.random.Generator) -> Floats:
        """Draw accuracies of trainings, (trainings, folds or seeds); by images (trainings, 1)."""
        if self.by == "images":
            return (generator.binomial(self.images, truths) / self.images)[:, np.newaxis]
        images = self.images // FOLDS if self.by == "folds" else self.images
        luck = shared + self.deviation * generator.normal(size=(len(truths), FOLDS))
        accuracies: Floats = np.round((truths[:, np.newaxis] + luck).clip(0, 1) * images) / images
        return accuracies

    def result(self, name: str, values: Floats) -> SearchResult:
        """Return a search whose trials have these values, (trials, epochs, folds or seeds)."""
        experiment = {"space": {"name": "made up"}, "base": CONFIG}
        event = started_event()
        data = event["data"] | {"val": self.images}
        started = Started(**{**event, "data": data, "experiment": experiment})
        result = SearchResult(name, started)
        result.sessions = result.current_sessions = []
        for number, of_epochs in enumerate(values):
            trial = TrialResult(
                f"t{number}", {}, CONFIG, "completed", training_key=f"t{number}", ended_ms=1
            )
            for epoch, each in enumerate(of_epochs, 1):
                trial.epochs[epoch] = metrics_of(float(each.mean()))
                if self.by == "folds":
                    trial.folds[epoch] = [metrics_of(float(value)) for value in each]
            result.trials[trial.trial] = trial
        if self.by == "seeds":
            result.selection = selection_of(values[:, 0], self.images)
            result.current_sessions = result.selection.sessions
        return result

    def truth(self, result: SearchResult) -> float:
        """Return the true value of the trial that a search is compared by."""
        selection, best = result.selection, result.best
        assert best is not None
        name = best.trial
        if selection is not None and selection.verdict is not None:
            name = selection.verdict.candidate
        return self.searches[int(result.name[1:])][int(name[1:])]


def metrics_of(accuracy: float) -> dict[str, float]:
    """Return the metrics of an epoch."""
    return {"val/accuracy": accuracy, "val/loss": 1 - accuracy, "time/epoch_s": 0.0}


def selection_of(values: Floats, images: int) -> Selection:
    """Return a selection among candidates with these accuracies, (candidates, seeds)."""
    race, *_ = race_of(values, images)
    known = {name: Candidate("m", 0.0, None, f"{name}-s1") for name in race.candidates}
    verdict = decide(race, known, CLASSIFICATION.primary)
    started = Selecting(
        candidates=race.candidates, seeds=SEEDS, alpha=race.alpha, slots=1, began_ms=1
    )
    selection = Selection(started, [], verdict=verdict)
    for name, scores in race.scores.items():
        for seed, accuracy in scores.items():
            repeat = TrialResult(f"{name}-s{seed}", {}, {**CONFIG, "seed": seed}, "completed")
            repeat.repeat_of, repeat.epochs = name, {1: metrics_of(accuracy)}
            selection.repeats[repeat.trial] = repeat
    return selection


def equal(*trials: int, truth: float = 0.8) -> list[list[float]]:
    """Return searches of so many trials each, all equally good."""
    return [[truth] * count for count in trials]


def cases() -> list[Case]:
    """Return the cases: equal searches, and one whose many trials are as good as another's best."""
    one_good = [[0.8] * 300, [0.8, *[0.7] * 299]]
    kinds: dict[str, Compared] = {}
    for one, two in ((1, 1), (20, 1), (100, 1), (300, 300)):
        for by in ("folds", "images"):
            kinds[f"{by}: best of {one} against best of {two}"] = Compared(by, equal(one, two))
    kinds |= {
        "folds: best of 300 against one as good among 300": Compared("folds", one_good),
        "folds of 10 images: best of 100 at 0.96 against 1": Compared(
            "folds", equal(100, 1, truth=0.96), images=50
        ),
        "folds: best of 20 of 30 epochs against 1 of 30": Compared(
            "folds", equal(20, 1), epochs=(30, 30)
        ),
        "folds: best of 20 of 30 epochs against 1 of 3": Compared(
            "folds", equal(20, 1), epochs=(30, 3)
        ),
        "folds: three searches, best of 20 each": Compared("folds", equal(20, 20, 20)),
        "images: best of 300 against one as good among 300": Compared("images", one_good),
        "images, 20: best of 100 at 0.5 against 1": Compared(
            "images", equal(100, 1, truth=0.5), images=20
        ),
        "images, 51: 1 at 0.99 against 1": Compared("images", equal(1, 1, truth=0.99), images=51),
        "images, 51: best of 20 at 0.99 against 1": Compared(
            "images", equal(20, 1, truth=0.99), images=51
        ),
        "images, 5,000: best of 100 at 0.95 against 1": Compared(
            "images", equal(100, 1, truth=0.95), images=5000
        ),
        "images: five searches, best of 20 each": Compared("images", equal(20, 20, 20, 20, 20)),
        "images: 1 against 1, 5 points apart": Compared("images", [[0.85], [0.8]]),
        "fresh seeds: 1 against 1": Compared("seeds", equal(1, 1)),
        "fresh seeds: best of 5 against best of 5": Compared("seeds", equal(5, 5)),
        "fresh seeds: best of 20 against 1": Compared("seeds", equal(20, 1)),
        "fresh seeds, 100 images: best of 20 at 0.95 against 1": Compared(
            "seeds", equal(20, 1, truth=0.95), images=100, deviation=0.003
        ),
    }
    return [
        Case(
            "compare",
            title,
            {"called better": ERROR} | ({"interval": INTERVAL} if kind.by == "images" else {}),
            kind.play,
            kind.repetitions,
        )
        for title, kind in kinds.items()
    ]


def leads() -> dict[str, Compared]:
    """Return searches of which one is better: among all its trials one, by so many points."""
    return {
        f"{by}: {points} points, best of {count} each": Compared(
            by, [[0.8 + points / 100, *[0.8] * (count - 1)], [0.8] * count]
        )
        for by in ("folds", "seeds", "images")
        for count in (1, 5, 20)
        for points in (2, 5, 10)
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print how often a search that is better is called so."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--repetitions", type=int, default=300)
    args = parser.parse_args(argv)
    print("| lead of the best trial | called better |\n|---|---|")
    for title, kind in leads().items():
        case = Case("compare", title, {"seen": SEEN}, kind.play)
        tally: Tally = measure(case, args.repetitions).tallies["seen"]
        print(f"| {title} | {100 * tally.share:.0f} % |", flush=True)


if __name__ == "__main__":
    main()
