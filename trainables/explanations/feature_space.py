"""Images in the feature space of a model: the nearest training images, and a map in the plane.

Features are the inputs of the last dense layer (`trainables.evaluation.evaluate.features_of`).
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from trainables.datasets.splits import Rows
from trainables.explanations.explainable import Floats

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
