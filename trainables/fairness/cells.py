"""The share of correct answers in each class of each group, and the lowest of them.

Such a class within a group is called a cell. The worst cell is that of "worst-group accuracy" in
Sagawa et al. 2020, "Distributionally Robust Neural Networks for Group Shifts", whose groups are the
combinations of a class and an attribute.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.entries import INTERVAL_LEVEL
from trainables.fairness.attributes import NO_GROUP
from trainables.statistics import share_bounds

LEAST_IMAGES = 11
"""The minimum number of images of a group whose share is compared with those of others.

With fewer, there is no interval (`trainables.catalog.entries.LEAST_FREEDOM`).
"""

Numbers = NDArray[np.int64]


class Cells(NamedTuple):
    """The images of each class and group that occur together, (cells,) each."""

    classes: Numbers
    """The number of the class."""
    groups: Numbers
    """The number of the group."""
    images: Numbers
    right: Numbers
    """The number of correct answers."""

    @property
    def compared(self) -> NDArray[np.bool_]:
        """True for the cells with enough images to be compared; for all if none has enough."""
        are_large = self.images >= LEAST_IMAGES
        return are_large if are_large.any() else np.ones(len(self.images), bool)


def count_cells(classes: Numbers, is_right: NDArray[np.bool_], groups: Numbers | None) -> Cells:
    """Count the images and the correct answers of each cell.

    Args:
        classes: the true class numbers, (images,).
        is_right: True for each image that is classified correctly, (images,).
        groups: the number of each image's group, (images,), or `NO_GROUP`, which leaves the image
            out; None if all images are of the same group.
    """
    if groups is None:
        groups = np.zeros(len(classes), np.int64)
    has_group = groups != NO_GROUP
    classes, is_right, groups = classes[has_group], is_right[has_group], groups[has_group]
    width = int(classes.max(initial=0)) + 1
    cells, places = np.unique(groups * width + classes, return_inverse=True)
    return Cells(
        cells % width,
        cells // width,
        np.bincount(places, minlength=len(cells)),
        np.bincount(places, weights=is_right, minlength=len(cells)).astype(np.int64),
    )


def lowest_share(cells: Cells) -> tuple[float, float, float]:
    """Return the lowest share among the cells that are compared, its error, and its freedom.

    The lowest of several measured shares is too low in the mean, since chance decides which one it
    is. Therefore the error is that of an interval which covers the lowest true share, whichever
    cell has it: the exact intervals of all cells hold together (Bonferroni), and the lowest of
    their lower and of their upper ends are its ends. The error is the larger distance to an end,
    divided by the quantile of Student's t for the smallest cell that is compared (`Metric.interval`
    multiplies them again). The degrees of freedom are the smallest number of images of all cells,
    less one, so that the interval is unknown if a cell is too small to be compared.

    Returns:
        The share, its standard error, and the degrees of freedom of the error.
    """
    if not len(cells.images):
        return 0.0, 0.5, 0.0
    # Imported here because importing scipy is slow, and few trainings need it.
    from scipy.special import stdtrit

    images, right = cells.images[cells.compared], cells.right[cells.compared]
    shares = right / images
    rate = (1 - INTERVAL_LEVEL) / 2 / len(images)
    ends = [
        share_bounds(share, count, rate)
        for share, count in zip(shares.tolist(), images.tolist(), strict=True)
    ]
    value, freedom = float(shares.min()), float(cells.images.min() - 1)
    low, high = (min(end) for end in zip(*ends, strict=True))
    width = stdtrit(max(1.0, float(images.min() - 1)), (1 + INTERVAL_LEVEL) / 2)
    return value, float(max(value - low, high - value) / width), freedom
