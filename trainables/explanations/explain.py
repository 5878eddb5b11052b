"""Explanations of predictions: a map of each image, with its faithfulness and its check."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.arrays import Images
from trainables.explanations.explainable import ExplainableModel, Floats, Maps, Numbers
from trainables.explanations.faithfulness import LEAST_GAIN, MapScorer, judge_faithfulness
from trainables.explanations.gradients import grad_cam, integrated_gradients
from trainables.explanations.networks import with_random_layers
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

    A map that explains no better than one of these is not compared with further networks.
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
    """The values of the parameter-randomisation check for each image, (images,)."""

    correlations: Floats
    """The mean rank correlation with the maps of networks with random layers."""
    scores: Floats
    """The mean score of these maps."""
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
    scorer = MapScorer(model, images, classes, seed)
    faithfulness = judge_faithfulness(scorer, maps, seed)
    scores, is_faithful = faithfulness.scores, faithfulness.is_faithful
    check = None
    if model.networks:
        check = _check(model, method, images, classes, maps, scorer, scores.values, seed)
    return [
        Explanation(
            number=int(number),
            probability=float(chances[row, number]),
            values=maps[row],
            insertion=float(scores.insertion[row]),
            deletion=float(scores.deletion[row]),
            random_score=float(faithfulness.random_scores[:, row].mean()),
            is_faithful=bool(is_faithful[row]),
            correlation=None if check is None else float(check.correlations[row]),
            redrawn_score=None if check is None else float(check.scores[row]),
            depends_on_weights=None if check is None else bool(check.passed[row]),
        )
        for row, number in enumerate(classes)
    ]


def _check(
    model: ExplainableModel,
    method: str,
    images: Images,
    classes: Numbers,
    maps: Maps,
    scorer: MapScorer,
    scores: Floats,
    seed: int,
) -> _CheckValues:
    """Compare maps with those of networks with random layers."""
    correlations, redrawn = np.full((2, REDRAWS, len(images)), np.nan)
    rows = np.arange(len(images))
    with step("drawing the weights again", REDRAWS) as advance:
        for number in range(REDRAWS):
            if not len(rows):
                break
            random_model = with_random_layers(model, (seed, number))
            redrawn_maps = COMPUTE[method](random_model, images[rows], classes[rows])
            correlations[number, rows] = rank_correlations(maps[rows], redrawn_maps)
            redrawn[number, rows] = scorer.score(redrawn_maps, rows).values
            rows = rows[scores[rows] > redrawn[number, rows]]  # the others have failed
            advance()
    mean = np.nanmean(correlations, axis=0)
    passed = np.isin(np.arange(len(images)), rows) & (mean < MAX_CORRELATION)
    redrawn_scores = np.nanmean(redrawn, axis=0)
    passed &= scores - redrawn_scores >= LEAST_GAIN
    return _CheckValues(mean, redrawn_scores, passed)
