"""The code of a task that does not need torch: checks of the targets, and facts about them.

`Targets` is for a task whose images are split at random; other tasks have a subclass.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.guesses import Guess
from trainables.config import DataConfig
from trainables.datasets.arrays import Arrays, Dataset, Decoded, Images, Part
from trainables.errors import DataError
from trainables.tasks import TASKS

Labels = NDArray[np.int64]
LEAST_IMAGES = 10
"""The number of images that a class needs to be a stratum.

Of fewer images, a fifth is one image at most; many such strata would make the drawn sets larger
than requested, because at least one image of each stratum is drawn.
"""

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


@dataclass(frozen=True)
class PixelCounts:
    """The pixels of each class in a part of a data set."""

    pixels: tuple[int, ...]
    """The number of pixels of each class."""
    images: tuple[int, ...]
    """The number of images in which each class occurs."""
    ignored: int
    """The number of pixels that belong to no class."""

    @property
    def shares(self) -> list[float]:
        """The share of each class among the pixels that belong to a class."""
        return [count / max(1, sum(self.pixels)) for count in self.pixels]

    @property
    def ignored_share(self) -> float:
        """The share of the pixels that belong to no class."""
        return self.ignored / max(1, self.ignored + sum(self.pixels))


@dataclass(frozen=True)
class ObjectCounts:
    """The objects of each class in a part of a data set."""

    objects: tuple[int, ...]
    """The number of objects of each class."""
    images: tuple[int, ...]
    """The number of images in which each class occurs."""
    without: int
    """The number of images without objects."""


class Targets:
    """Targets of any kind: only their number is checked, and images are not stratified."""

    are_classes = False
    """True if each image has one class, int64 (images,)."""
    fills_up = False
    """True if networks are trained on squares, for which smaller images are filled up.

    Then `data.image_size` is the side of these squares, and may be larger than some images.
    """
    side_step = 1
    """The side of these squares is a multiple of this number of pixels."""
    most_side = 224
    """The default maximum side of these squares, in pixels."""
    pads = False
    """True if images of several sizes are padded to one size (`image`).

    Then `data.image_size` is the longer side to which images are resized.
    """

    def check(self, decoded: Decoded, config: DataConfig) -> None:
        """Check the images and targets that a loader returned.

        Raises:
            DataError: their numbers differ, there are too few images for the parts, or
                `data.image_size` does not suit the networks.
        """
        for part in (decoded.train, decoded.val, decoded.test):
            if part is not None and len(part.images) != len(part.targets):
                raise DataError(
                    f"the numbers of images ({len(part.images)}) and targets ({len(part.targets)}) "
                    "differ. The files are damaged; replace them."
                )
        step, side = self.side_step, config.image_size
        if side is not None and side % step:
            sizes = [str(size) for size in (side // step * step, -(-side // step) * step) if size]
            raise DataError(
                f"data.image_size {side} is not a multiple of {step}, which networks for "
                f"{TASKS[config.task].title} need. Use {' or '.join(sizes)}."
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
        """Check that a data set was split into parts that can be used for training.

        Raises:
            DataError: no stratum has an image for each fold.
        """
        strata = dataset.strata
        if dataset.folds is None or strata is None:
            return
        if (count := int(np.bincount(strata).max())) < dataset.folds:
            remedy = f"Use --folds {count}" if count > 1 else "Remove --folds"
            raise DataError(
                f"the largest group of training images with the same rarest class has {count:,}, "
                f"which is fewer than {dataset.folds} folds. {remedy}, or add images."
            )

    def remarks(self, dataset: Dataset) -> list[str]:
        """Return notes and warnings on a data set that depend on the settings of the training."""
        return []

    def image(self, dataset: Dataset) -> tuple[int, int, int]:
        """Return the (channels, height, width) of a network's input in training."""
        return dataset.image

    def samples_per_image(self, dataset: Dataset) -> int:
        """Return the number of samples that an epoch draws from each training image, on average.

        It is 1 for a task that trains on whole images, and more for one that trains on crops.
        """
        return 1

    def inputs_per_image(self, dataset: Dataset) -> float:
        """Return the work of predicting a validation image, in inputs of the training's size."""
        return 1.0

    def width(self, dataset: Dataset) -> int:
        """Return the number of outputs of a network for this data set."""
        return len(dataset.classes)

    def class_counts(self, part: Part, classes: int) -> Labels:
        """Count the targets of each class, int64 (classes,), for weights of the classes."""
        counts: Labels = np.bincount(part.targets, minlength=classes)
        return counts

    def count_pixels(self, part: Part, classes: int) -> PixelCounts | None:
        """Count the pixels of each class; None if pixels have no classes."""
        return None

    def count_objects(self, part: Part, classes: int) -> ObjectCounts | None:
        """Count the objects of each class; None if targets are no objects."""
        return None

    def occurrences(self, part: Part, classes: int) -> NDArray[np.bool_]:
        """Find the classes that occur in each image, (images, classes)."""
        occurs: NDArray[np.bool_] = part.targets[:, None] == np.arange(classes)
        return occurs

    def class_colours(self, classes: int) -> list[Colour]:
        """Return the colour of each class in pictures; empty if classes have no colours."""
        return []

    def picture(self, image: Images, target: Arrays, side: int) -> Images:
        """Return an image with its target drawn on it, for a thumbnail.

        Args:
            image: (height, width, channels).
            target: its target.
            side: the longer side of the thumbnail. The result may be a reduced image, which is at
                least twice as large.
        """
        return image

    def strata(self, targets: Arrays) -> Labels:
        """Return the stratum of each image, int64 (images,).

        Each part gets its share of every stratum.
        """
        return np.zeros(len(targets), np.int64)

    def guesses(self, dataset: Dataset) -> list[Guess]:
        """Return the ways of guessing without looking at an image; empty if none are known."""
        return []


def class_weights(kind: str, counts: Labels) -> NDArray[np.float64]:
    """Return the weight of each class, (classes,); the mean weight of what is counted is 1.

    Args:
        kind: `none`, `sqrt` or `balanced` (`TrainConfig.class_weights`).
        counts: the number of training images (or pixels) of each class, (classes,).
    """
    weights = np.maximum(counts, 1.0) ** -{"none": 0.0, "sqrt": 0.5, "balanced": 1.0}[kind]
    normalised: NDArray[np.float64] = weights * (counts.sum() / (counts @ weights))
    return normalised


def rarest_classes(present: NDArray[np.bool_]) -> Labels:
    """Return the number of the rarest class that occurs in each image, int64 (images,).

    A class is rare if it occurs in few of these images. Therefore images with a rare class are
    divided evenly, and for two classes, so are images without foreground. Classes that occur in
    fewer than `LEAST_IMAGES` images are not considered.

    Args:
        present: the classes that occur in each image, (images, classes).
    """
    counts = present.sum(axis=0)
    costs = np.where(present & (counts >= LEAST_IMAGES), counts, len(present) + 1)
    strata: Labels = costs.argmin(axis=1).astype(np.int64)
    return strata
