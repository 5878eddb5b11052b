"""The share of correct answers in each class of each group, and the lowest of them.

Such a class within a group is called a cell. The worst cell is that of "worst-group accuracy" in
Sagawa et al. 2020, "Distributionally Robust Neural Networks for Group Shifts", whose groups are the
combinations of a class and an attribute.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainables.fairness.attributes import NO_GROUP

LEAST_IMAGES = 12
"""The minimum number of images of a group whose share is compared with those of others.

With fewer, there is no interval (`trainables.catalog.tasks.LEAST_FREEDOM`).
"""
RESAMPLES = 200
"""The number of samples for the standard error of the lowest share."""

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

    @property
    def worst(self) -> int:
        """The index of the cell with the lowest share among those that are compared.

        If several have it, it is the one with the most images.
        """
        shares = np.where(self.compared, self.right / self.images, np.inf)
        return int(np.lexsort((-self.images, shares))[0])


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

    The standard error is the root mean square difference between this share and those of random
    samples, so that it includes the bias: the lowest of several measured shares is too low in the
    mean. In the samples, shares are shrunk towards one half by one additional correct answer and
    one additional wrong one (Agresti and Coull 1998). The seed is fixed, so that the same counts
    give the same error. The degrees of freedom are the smallest number of images, less one.
    """
    if not len(cells.images):
        return 0.0, 0.5, 0.0
    images, right = cells.images[cells.compared], cells.right[cells.compared]
    value = float((right / images).min())
    drawn = np.random.default_rng(0).binomial(
        images, (right + 1) / (images + 2), (RESAMPLES, len(images))
    )
    lowest = (drawn / images).min(axis=1)
    return value, float(np.sqrt(((lowest - value) ** 2).mean())), float(images.min() - 1)
