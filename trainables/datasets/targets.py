"""The code of a task that does not need torch: checks of the targets, and facts about them.

`Targets` is for a task whose images are split at random; `class_numbers` has the subclass for
classification.
"""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.guesses import Guess
from trainables.config import DataConfig
from trainables.datasets.arrays import Arrays, Dataset, Decoded
from trainables.errors import DataError

Labels = NDArray[np.int64]


class Targets:
    """Targets of any kind: only their number is checked, and images are not stratified."""

    are_classes = False
    """True if each image has one class, int64 (images,)."""

    def check(self, decoded: Decoded, config: DataConfig) -> None:
        """Check the images and targets that a loader returned.

        Raises:
            DataError: their numbers differ, or there are too few images for the parts.
        """
        for part in (decoded.train, decoded.val, decoded.test):
            if part is not None and len(part.images) != len(part.targets):
                raise DataError(
                    f"the numbers of images ({len(part.images)}) and targets ({len(part.targets)}) "
                    "differ. The files are damaged; replace them."
                )
        drawn = 1 + (decoded.val is None) + (decoded.test is None)
        if len(decoded.train) < drawn:
            raise DataError(
                f"{len(decoded.train)} image{'s' * (len(decoded.train) != 1)} cannot be divided "
                f"into {drawn} sets. Add images."
            )

    def about_sizes(self, sizes: Mapping[str, int], own_parts: Collection[str]) -> list[str]:
        """Return a line for each problem with the number of classes, or with the size of a class.

        Args:
            sizes: the number of training images of each class, by name.
            own_parts: the names of the parts that the data set itself has, which are not drawn.
        """
        return []

    def check_split(self, dataset: Dataset) -> None:
        """Check a data set after it was split.

        Raises:
            DataError: the data set cannot be used for training.
        """

    def image(self, dataset: Dataset) -> tuple[int, int, int]:
        """Return the (channels, height, width) of a network's input in training."""
        return dataset.image

    def width(self, dataset: Dataset) -> int:
        """Return the number of outputs of a network for this data set."""
        return len(dataset.classes)

    def strata(self, targets: Arrays) -> Labels:
        """Return the stratum of each image, int64 (images,).

        Each part gets its share of every stratum.
        """
        return np.zeros(len(targets), np.int64)

    def guesses(self, dataset: Dataset) -> list[Guess]:
        """Return the ways of guessing without looking at an image; empty if none are known."""
        return []
