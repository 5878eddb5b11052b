"""Crops for training, and tiles for predicting: their sizes, and their number an image."""

from collections.abc import Callable, Sequence

import numpy as np

from trainables.datasets.arrays import Arrays, Dataset, Ragged

ENOUGH = 2000
"""An epoch has no more crops than are needed for this number, however many pixels there are.

After so many crops trials can be compared. With longer epochs a search could decide less often, and
would end with fewer trials.
"""


def crops_per_image(dataset: Dataset) -> int:
    """Return the mean number of crops of an image in an epoch.

    Together they have about as many pixels as the images, so that an epoch shows about all of them:
    with one crop an image, an epoch of 30 photographs would be 30 small samples, and validation
    values would change by chance from one epoch to the next. `ENOUGH` limits their number.
    """
    _, height, width = dataset.image
    count = len(dataset.train)
    crops = round(count_pixels(dataset.train.images) / (count * height * width))
    return max(1, min(crops, -(-ENOUGH // count)))


def tile_side(dataset: Dataset, step: int) -> int:
    """Return the side of the tiles in which images are predicted, a multiple of `step`.

    It is twice the side of a crop, since larger tiles overlap less, but no larger than the largest
    training image needs.
    """
    side = max(dataset.image[1:])
    largest = max(dataset.train.shape[1:3])
    return -(-max(side, min(2 * side, largest)) // step) * step


def pixels_in_tiles(
    dataset: Dataset, step: int, divide: Callable[[int, int], Sequence[object]]
) -> int:
    """Count the pixels of all tiles of the validation images (`tile_side`).

    `divide` returns the tiles along an axis of so many pixels, given the side of a tile.
    """
    side = tile_side(dataset, step)
    return sum(
        len(divide(height, side)) * len(divide(width, side)) * side**2
        for height, width, _ in (image.shape for image in dataset.val.images)
    )


def count_pixels(images: Arrays) -> int:
    """Count the pixels of images, which may differ in size."""
    if isinstance(images, Ragged):
        return int(images.shapes[:, :2].prod(axis=1).sum())
    return int(np.prod(images.shape[:3]))
