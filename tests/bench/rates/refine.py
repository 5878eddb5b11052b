"""How often `search.refine` calls an effect clear where no parameter has any."""

from collections.abc import Callable

import numpy as np

from search.decisions.refinement import observations
from search.decisions.space_refinement import narrow
from search.journal.result import SearchResult, TrialResult
from search.space import Choice, SearchSpace
from tests.bench.rates.case import Case, Promise
from tests.bench.rates.selection import LENGTHS, curve

EFFECTS = {
    "optimizer.lr": (0.001, 0.01, 0.1),
    "batch_size": (32, 64, 128),
    "model.layers": (5, 10, 15),
    "model.filter_size": (3, 5, 7),
}
CLEAR = ("narrowed", "finer", "dropped", "kept")
"""Changes that a parameter sees only if its effect is clear."""


def played(trainings: int, lengths: int) -> Callable[[np.random.Generator], dict[str, bool | None]]:
    """Return the play of a search of so many trainings, each of so many lengths."""
    domains = {path: Choice(*options) for path, options in EFFECTS.items()} | {
        "epochs": Choice(*LENGTHS[: max(2, lengths)])
    }
    space = SearchSpace(domains, base={"model.name": "deep_cnn"})
    points = np.stack(np.meshgrid(*EFFECTS.values()), -1).reshape(-1, len(EFFECTS)).tolist()

    def play(generator: np.random.Generator) -> dict[str, bool | None]:
        result = SearchResult()
        for row in generator.permutation(len(points))[:trainings]:
            value = float(0.9 + 0.01 * generator.normal())
            params = {
                path: type(EFFECTS[path][0])(option)
                for path, option in zip(EFFECTS, points[row], strict=True)
            }
            for length in LENGTHS[:lengths]:
                name = f"t{len(result.trials)}"
                result.trials[name] = TrialResult(
                    name,
                    params | {"epochs": length},
                    {"epochs": length},
                    "completed",
                    epochs=curve(value, length),
                    training_key=f"{row}",
                )
        _, changes = narrow(space, observations(result), result.ranking[0].params)
        return {"clear": any(change.kind in CLEAR or change.is_clear for change in changes)}

    return play


def cases() -> list[Case]:
    """Return the cases: searches of which every training is as good as every other."""
    return [
        Case(
            "refine",
            f"no effect, {trainings} trainings, {lengths} length{'s' * (lengths > 1)} of each",
            {"clear": Promise("error rate", 0.05)},
            played(trainings, lengths),
        )
        for trainings, lengths in ((9, 1), (27, 1), (27, 3), (81, 3))
    ]
