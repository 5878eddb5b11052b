"""Explanations of predictions: a map of each image, with its faithfulness and its check."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.arrays import Images
from trainables.explanations.explainable import ExplainableModel, Floats, Maps, Numbers
from trainables.explanations.faithfulness import RANDOM_MAPS, Scores, random_maps, score_maps
from trainables.explanations.gradients import grad_cam, integrated_gradients
from trainables.explanations.occlusion import occlusion
from trainables.explanations.randomisation import (
    MAX_CORRELATION,
    REDRAWS,
    rank_correlations,
)
from trainables.progress import step
from trainables.values import Json

COMPUTE: dict[str, Callable[[ExplainableModel, Images, Numbers], Maps]] = {
    "gradcam": grad_cam,
    "integrated_gradients": integrated_gradients,
    "occlusion": occlusion,
}
"""The functions of the methods in `trainables.catalog.explanations.METHODS`."""
LEAST_GAIN = 0.05
"""The smallest difference between scores (probabilities) that makes a map better than others.

Without it, the maps of an untrained network pass: they fit its predictions, which hardly vary. In
`docs/benchmarks.md`, faithful maps of a trained network exceed random ones by about 0.5, those of
an untrained network by at most 0.01.
"""


@dataclass(frozen=True)
class Explanation:
    """The explanation of one prediction."""

    number: int
    """The class that is explained: the most probable one."""
    probability: float
    """The probability of this class."""
    values: Maps
    """The map, (height, width)."""
    insertion: float
    deletion: float
    random_score: float
    """The mean of insertion minus deletion over random maps."""
    is_faithful: bool
    """True if the map's score is the highest, and exceeds this mean by `LEAST_GAIN`."""
    correlation: float | None
    """The mean rank correlation with maps of networks with random layers; None without a network.
    """
    redrawn_score: float | None
    """The mean of insertion minus deletion over these maps; None without a network."""
    depends_on_weights: bool | None
    """True if the map passes the parameter-randomisation check; None without a network."""

    @property
    def score(self) -> float:
        """Insertion minus deletion, from -1 to 1; higher is better."""
        return self.insertion - self.deletion

    def to_json(self) -> Json:
        """Return the verdicts, without the map, as JSON-compatible values."""
        return {
            "probability": self.probability,
            "faithfulness": {
                "insertion": self.insertion,
                "deletion": self.deletion,
                "score": self.score,
                "random": self.random_score,
                "passed": self.is_faithful,
            },
            "check": None
            if self.depends_on_weights is None
            else {
                "correlation": self.correlation,
                "redrawn": self.redrawn_score,
                "passed": self.depends_on_weights,
            },
        }


@dataclass(frozen=True)
class _CheckValues:
    """The values of the parameter-randomisation check for each image."""

    correlations: Floats
    """The mean rank correlations, (images,)."""
    scores: Floats
    """The scores of the maps of networks with random layers, (networks, images)."""
    passed: NDArray[np.bool_]


def explain(
    model: ExplainableModel, method: str, images: Images, *, seed: int = 0
) -> list[Explanation]:
    """Explain the most probable class of each image.

    Args:
        model: the model.
        method: a key of `COMPUTE` that supports the model.
        images: uint8 (images, height, width, channels), in the size of the training images.
        seed: determines the random maps and the random layers.
    """
    chances = model.predict(images)
    classes = chances.argmax(axis=1)
    with step("computing maps"):
        maps = COMPUTE[method](model, images, classes)
    return judge_maps(model, method, images, classes, maps, seed=seed)


def judge_maps(
    model: ExplainableModel,
    method: str,
    images: Images,
    classes: Numbers,
    maps: Maps,
    *,
    seed: int = 0,
) -> list[Explanation]:
    """Judge maps of images as explanations of these classes.

    Args:
        model: the model.
        method: the method of the maps with which they are compared.
        images: the images.
        classes: the class that each map explains.
        maps: the maps, (images, height, width).
        seed: determines the random maps and the random layers.
    """
    chances = model.predict(images)
    scores, random_scores = _faithfulness(model, images, classes, maps, seed)
    is_best = _is_better(scores.values, random_scores)
    check = None
    if model.networks:
        check = _check(model, method, images, classes, maps, scores.values, seed)
    return [
        Explanation(
            number=int(number),
            probability=float(chances[row, number]),
            values=maps[row],
            insertion=float(scores.insertion[row]),
            deletion=float(scores.deletion[row]),
            random_score=float(random_scores[:, row].mean()),
            is_faithful=bool(is_best[row]),
            correlation=None if check is None else float(check.correlations[row]),
            redrawn_score=None if check is None else float(check.scores[:, row].mean()),
            depends_on_weights=None if check is None else bool(check.passed[row]),
        )
        for row, number in enumerate(classes)
    ]


def _faithfulness(
    model: ExplainableModel, images: Images, classes: Numbers, maps: Maps, seed: int
) -> tuple[Scores, Floats]:
    """Compute the scores of maps, and those of random maps, (random maps, images)."""
    generator, each = np.random.default_rng(seed), []
    with step("comparing with random maps", RANDOM_MAPS + 1) as advance:
        scores = score_maps(model, images, classes, maps, seed)
        advance()
        for _ in range(RANDOM_MAPS):
            moved = random_maps(maps, generator)
            each.append(score_maps(model, images, classes, moved, seed).values)
            advance()
    return scores, np.stack(each)


def _check(
    model: ExplainableModel,
    method: str,
    images: Images,
    classes: Numbers,
    maps: Maps,
    scores: Floats,
    seed: int,
) -> _CheckValues:
    """Compare maps with those of networks with random layers."""
    correlations, redrawn = [], []
    with step("drawing the weights again", REDRAWS) as advance:
        for number in range(REDRAWS):
            redrawn_maps = COMPUTE[method](
                model.with_random_layers((seed, number)), images, classes
            )
            correlations.append(rank_correlations(maps, redrawn_maps))
            redrawn.append(score_maps(model, images, classes, redrawn_maps, seed).values)
            advance()
    mean, redrawn_scores = np.mean(correlations, axis=0), np.stack(redrawn)
    passed = (mean < MAX_CORRELATION) & _is_better(scores, redrawn_scores)
    return _CheckValues(mean, redrawn_scores, passed)


def _is_better(scores: Floats, rivals: Floats) -> NDArray[np.bool_]:
    """Check which scores exceed all their rivals, and the mean of these by `LEAST_GAIN`.

    Args:
        scores: (images,).
        rivals: (maps, images).
    """
    better: NDArray[np.bool_] = (scores > rivals.max(axis=0)) & (
        scores - rivals.mean(axis=0) >= LEAST_GAIN
    )
    return better
