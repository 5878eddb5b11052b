"""The validation images that are explained unless others are named, and what is similar to them.

Similar images are near in the feature space of the model: features are the inputs of the last dense
layer (`trainables.evaluation.evaluate.features_of`).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.datasets.splits import Rows
from trainables.evaluation.evaluate import features_of
from trainables.explanations.maps import Floats, Numbers
from trainables.progress import step

COMPONENTS = 50
"""The number of principal components that t-SNE gets (van der Maaten and Hinton 2008, section 4.1).
"""
PERPLEXITY = 30.0
"""The perplexity of t-SNE, unless there are fewer than about 90 images."""
FEWEST = 10
"""The smallest number of images of which a map is drawn."""


def nearest_rows(queries: Floats, features: Floats, count: int) -> tuple[Rows, Floats]:
    """Find the rows of `features` with the highest cosine similarity to each query.

    Args:
        queries: (queries, length).
        features: (images, length).
        count: the number of rows for each query.

    Returns:
        The rows and their similarities, (queries, count) each, the most similar first.
    """
    similarities = _unit(queries) @ _unit(features).T
    rows = np.argsort(-similarities, axis=1, kind="stable")[:, :count]
    return rows, np.take_along_axis(similarities, rows, axis=1)


def _unit(features: Floats) -> Floats:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    directions: Floats = features / np.maximum(lengths, 1e-12)
    return directions


def map_in_plane(features: Floats, seed: int = 0) -> NDArray[np.float64] | None:
    """Map features to points of a plane by PCA and t-SNE; None for fewer than `FEWEST` images.

    Distances between far points mean nothing; groups do.

    Args:
        features: (images, length).
        seed: of t-SNE.

    Returns:
        Points from 0 to 1, (images, 2).
    """
    if len(features) < FEWEST:
        return None
    components = min(COMPONENTS, *features.shape)
    reduced = PCA(components, random_state=seed).fit_transform(features)
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    points = TSNE(
        perplexity=perplexity, init="random" if components < 2 else "pca", random_state=seed
    ).fit_transform(reduced)
    low, high = points.min(axis=0), points.max(axis=0)
    scaled: NDArray[np.float64] = (points - low) / np.maximum(high - low, 1e-12)
    return scaled


MISTAKES, CORRECT = 8, 4
"""The number of mistakes, and of correct predictions, that are explained."""
NEIGHBOURS = 5
"""The number of training images that are compared with a mistake."""
MOST_TRAINING = 5000
"""The largest number of training images, evenly spread, among which the nearest are searched."""
MOST_MAPPED = 2000
"""The largest number of validation images, evenly spread, in the map of features.

t-SNE takes long for many points.
"""


@dataclass(frozen=True)
class Neighbour:
    """A training image that is similar to an explained image."""

    row: int
    number: int
    """Its class number."""
    similarity: float
    """The cosine similarity of the features, at most 1."""


@dataclass(frozen=True)
class FeatureMap:
    """Validation images as points of a plane."""

    points: Floats
    """Points from 0 to 1, (images, 2)."""
    classes: Numbers
    """The true classes, (images,)."""
    guesses: Numbers
    """The predicted classes, (images,)."""


def choose_rows(chances: Floats, targets: Numbers) -> Rows:
    """Choose the most confident mistakes, followed by correct predictions of all confidences.

    Args:
        chances: class probabilities, (images, classes).
        targets: true classes, (images,).
    """
    confidences, guesses = chances.max(axis=1), chances.argmax(axis=1)
    order = np.argsort(-confidences, kind="stable")
    is_right = (guesses == targets)[order]
    correct = order[is_right]
    spread = np.unique(np.linspace(0, len(correct) - 1, CORRECT).round().astype(int))
    return np.concatenate([order[~is_right][:MISTAKES], correct[spread[: len(correct)]]])


def spread_rows(part: Part, most: int) -> Rows:
    """Return at most this number of rows of a part, evenly spread."""
    return np.unique(np.linspace(0, len(part) - 1, min(most, len(part))).round().astype(np.intp))


def find_neighbours(
    config: TrialConfig, dataset: Dataset, path: Path, rows: Rows
) -> list[list[Neighbour]]:
    """Find the training images that are most similar to each of these validation images.

    Args:
        config: the config of the model's trial.
        dataset: the data set of the training.
        path: the checkpoint.
        rows: rows of the validation set.
    """
    if not len(rows):
        return []
    candidates = spread_rows(dataset.train, MOST_TRAINING)
    if dataset.train is dataset.val:  # with folds, an image would be its own neighbour
        candidates = np.setdiff1d(candidates, rows)
    with step("finding similar training images"):
        training = dataset.train.take(candidates)
        nearest, similarities = nearest_rows(
            features_of(config, dataset, path, dataset.val.take(rows).images),
            features_of(config, dataset, path, training.images),
            NEIGHBOURS,
        )
    return [
        [
            Neighbour(int(candidates[place]), int(training.targets[place]), float(similarity))
            for place, similarity in zip(*pair, strict=True)
        ]
        for pair in zip(nearest, similarities, strict=True)
    ]


def map_features(
    config: TrialConfig, dataset: Dataset, path: Path, chances: Floats
) -> FeatureMap | None:
    """Map the validation set to a plane by its features; None for too few images.

    `chances` are the class probabilities of all validation images, (images, classes).
    """
    rows = spread_rows(dataset.val, MOST_MAPPED)
    with step("mapping the validation images"):
        some = dataset.val.take(rows)
        points = map_in_plane(features_of(config, dataset, path, some.images))
    if points is None:
        return None
    return FeatureMap(points, some.targets, chances[rows].argmax(axis=1))
