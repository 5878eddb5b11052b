"""Baselines of segmentation: a threshold, and random forests on features of pixels.

This file is copied with an exported model, so it imports nothing from this project.

    load(folder, description)(image)

predicts the mask of an image, uint8 (height, width, channels). Forests see an image in tiles, so
that memory does not grow with its size. Each tile has a margin as wide as the filters reach, and
therefore the result does not depend on the tiles.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Features = NDArray[np.float32]
Chances = NDArray[np.float64]

OTSU, FOREST = "otsu", "pixel_forest"
"""The values of `baseline` in `about.json`."""
GREY_WEIGHTS = (19595, 38470, 7471)
"""The weights of red, green and blue in grey, in 65536ths (ITU-R BT.601, as in Pillow)."""
SIGMA_MIN, SIGMA_MAX = 1, 16
"""The standard deviations of the narrowest and the widest filter, in pixels."""
TILE = 512
"""The side of a tile, in pixels."""
MARGIN = 4 * SIGMA_MAX + 8
"""The reach of the filters: Gaussians are cut at four standard deviations, and then derived."""


def to_grey(image: Images) -> Images:
    """Convert an image (height, width, channels) to grey, uint8 (height, width)."""
    if image.shape[2] == 1:
        return image[..., 0]
    weighted = image[..., :3].astype(np.uint32) @ np.array(GREY_WEIGHTS, np.uint32)
    grey: Images = ((weighted + 0x8000) >> 16).astype(np.uint8)
    return grey


def otsu_threshold(grey: Images) -> int:
    """Return the threshold that separates grey values best; those above it are bright.

    It maximises the variance between both sides (Otsu 1979), which with n of N pixels up to the
    threshold, their sum s and the total sum S is proportional to (S n - s N)^2 / (n (N - n)).
    """
    counts = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
    below, sums = counts.cumsum(), (counts * np.arange(256)).cumsum()
    divisors = below * (below[-1] - below)
    variances = np.divide(
        (sums[-1] * below - sums * below[-1]) ** 2,
        divisors,
        out=np.zeros(256),
        where=divisors > 0,
    )
    return int(variances.argmax())


def threshold_mask(image: Images, side: str) -> Mask:
    """Divide an image by Otsu's threshold; the pixels on `side` are 1.

    An image of a single grey value has no foreground.
    """
    grey = to_grey(image)
    if grey.min() == grey.max():
        return np.zeros(grey.shape, np.uint8)
    bright = grey > otsu_threshold(grey)
    if side == "smaller":
        side = "bright" if 2 * np.count_nonzero(bright) <= bright.size else "dark"
    return (bright if side == "bright" else ~bright).astype(np.uint8)


def pixel_features(image: Images) -> Features:
    """Compute the features of each pixel, (height, width, features).

    For each channel and scale they are the smoothed value, its gradient, and the eigenvalues of the
    Hessian (scikit-image's `multiscale_basic_features`).
    """
    # Imported here because the import takes half a second, and thresholds do not need it.
    from skimage.feature import multiscale_basic_features

    height, width = image.shape[:2]
    # A gradient needs two pixels along each axis.
    padded = np.pad(image, ((0, max(0, 2 - height)), (0, max(0, 2 - width)), (0, 0)), mode="edge")
    features: Features = multiscale_basic_features(
        padded, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, channel_axis=-1
    )
    return features[:height, :width]


def forest_chances(forest: Any, image: Images, classes: int) -> Chances:
    """Predict the probability of each class, (height, width, classes), with a random forest."""
    height, width = image.shape[:2]
    chances = np.zeros((height, width, classes))
    for rows, columns in _tiles(height, width):
        top, first = max(0, rows.start - MARGIN), max(0, columns.start - MARGIN)
        features = pixel_features(image[top : rows.stop + MARGIN, first : columns.stop + MARGIN])
        own = features[rows.start - top : rows.stop - top, columns.start - first :][
            :, : columns.stop - columns.start
        ]
        predicted = forest.predict_proba(own.reshape(-1, own.shape[-1]))
        chances[rows, columns, forest.classes_] = predicted.reshape(*own.shape[:2], -1)
    return chances


def threshold_chances(image: Images, side: str, accuracy: float) -> Chances:
    """Return the probability of each class, (height, width, 2), for a threshold of this accuracy.

    The accuracy is the probability of the class that `threshold_mask` predicts.
    """
    predicted = threshold_mask(image, side)[..., None] == np.arange(2)
    return np.where(predicted, accuracy, 1 - accuracy)


def mean_chances(each: Iterable[Chances]) -> Chances:
    """Return the mean of the probabilities of several models, (height, width, classes)."""
    chances = iter(each)
    total, count = next(chances), 1
    for more in chances:  # one by one, since those of a large image take much memory
        total = total + more
        count += 1
    return total / count if count > 1 else total


def most_probable(chances: Chances) -> Mask:
    """Return the most probable class of each pixel, uint8 (height, width)."""
    mask: Mask = chances.argmax(axis=2).astype(np.uint8)
    return mask


def load(folder: Path, description: Mapping[str, Any]) -> Callable[[Images], Mask]:
    """Load a model from its folder; return its function from an image to its mask.

    Args:
        folder: the model's folder.
        description: the values in its `about.json`.
    """
    models = [_member(folder, description, member) for member in description["members"]]
    return lambda image: most_probable(mean_chances(model(image) for model in models))


def _member(
    folder: Path, description: Mapping[str, Any], member: Mapping[str, Any]
) -> Callable[[Images], Chances]:
    """Return the function from an image to probabilities of one member; with folds, of several."""
    if description["baseline"] == OTSU:
        return lambda image: threshold_chances(image, **member)
    import skops.io

    forest = skops.io.load(folder / member["file"], trusted=["sklearn.tree._tree.Tree"])
    return lambda image: forest_chances(forest, image, len(description["classes"]))


def _tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of each tile of an image."""
    for row, column in itertools.product(range(0, height, TILE), range(0, width, TILE)):
        yield slice(row, min(row + TILE, height)), slice(column, min(column + TILE, width))
