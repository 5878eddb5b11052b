"""The targets of segmentation: for each image the class number of every pixel."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.guesses import Guess, commonest
from trainables.config import DataConfig
from trainables.datasets.arrays import Arrays, Dataset, Decoded, Images, Part, Ragged
from trainables.datasets.crops import crops_per_image, pixels_in_tiles
from trainables.datasets.targets import (
    Colour,
    Labels,
    PixelCounts,
    Targets,
    rarest_classes,
)
from trainables.errors import DataError, counted, printable
from trainables.predictors.base import spans
from trainables.tasks.segmentation.formats.decoding import count_values
from trainables.tasks.segmentation.predictor import overlay, palette
from trainables.tasks.segmentation.values import IGNORED, MAX_CLASSES, SIDE_STEP


class MaskTargets(Targets):
    """Masks: uint8 (images, height, width), or `Ragged` of (height, width); 255 is ignored."""

    fills_up = True
    side_step = SIDE_STEP

    def check(self, decoded: Decoded, config: DataConfig) -> None:
        """Check that masks fit the images and classes, and that the training masks differ.

        Raises:
            DataError: a mask has another size than its image or a number without a class, all
                training pixels are of one class, there are too few images, or `data.image_size`
                does not suit the networks.
        """
        super().check(decoded, config)
        if not 0 < len(decoded.classes) <= MAX_CLASSES:
            raise DataError(
                f"the masks have {len(decoded.classes)} classes; 1 to {MAX_CLASSES} are allowed."
            )
        for part in decoded.parts.values():
            _check_shapes(part)
            numbers = np.flatnonzero(present_classes(part.targets).any(axis=0))
            if (largest := int(numbers.max(initial=0))) >= len(decoded.classes):
                raise DataError(
                    f"a mask has the class number {largest}, but the classes have the numbers 0 to "
                    f"{len(decoded.classes) - 1}. The files are damaged."
                )
        present = np.flatnonzero(present_classes(decoded.train.targets).any(axis=0))
        if len(present) < 2:
            only = (
                f"of class {printable(decoded.classes[present[0]])!r}"
                if len(present)
                else "ignored"
            )
            raise DataError(
                f"every pixel of the {counted(len(decoded.train), 'training mask')} is {only}, "
                "so there is nothing to learn. Check that the masks were saved with their values."
            )

    def samples_per_image(self, dataset: Dataset) -> int:
        """Return the number of crops that an epoch draws from each training image."""
        return crops_per_image(dataset)

    def inputs_per_image(self, dataset: Dataset) -> float:
        """Return the pixels of the tiles of a validation image, in crops."""
        _, height, width = dataset.image
        return float(
            pixels_in_tiles(dataset, SIDE_STEP, spans) / (len(dataset.val) * height * width)
        )

    def class_counts(self, part: Part, classes: int) -> Labels:
        """Count the pixels of each class, int64 (classes,)."""
        return np.array(self.count_pixels(part, classes).pixels, np.int64)

    def count_pixels(self, part: Part, classes: int) -> PixelCounts:
        """Count the pixels of each class, and the images in which it occurs."""
        pixels, images = np.zeros((2, 256), np.int64)
        for mask in part.targets:
            counts = count_values(mask)
            pixels += counts
            images += counts > 0
        return PixelCounts(
            tuple(pixels[:classes].tolist()), tuple(images[:classes].tolist()), int(pixels[IGNORED])
        )

    def occurrences(self, part: Part, classes: int) -> NDArray[np.bool_]:
        """Find the classes that occur in each mask, (images, classes)."""
        return present_classes(part.targets)[:, :classes]

    def class_colours(self, classes: int) -> list[Colour]:
        """Return the colour of each class in masks."""
        values = palette()
        return [
            (values[3 * number], values[3 * number + 1], values[3 * number + 2])
            for number in range(classes)
        ]

    def picture(self, image: Images, target: Arrays, side: int) -> Images:
        """Return a reduced image with its mask laid over it."""
        step = max(1, max(target.shape) // (2 * side))
        return overlay(image[::step, ::step], target[::step, ::step])

    def strata(self, targets: Arrays) -> Labels:
        """Return the number of the rarest class that occurs in each image (`rarest_classes`)."""
        return rarest_classes(present_classes(targets))

    def guesses(self, dataset: Dataset) -> list[Guess]:
        """Return the guesses that every pixel is of the commonest class (`constant_mask`)."""
        classes = len(dataset.classes)
        train, val, test = (
            [0] * classes if part is None else self.class_counts(part, classes).tolist()
            for part in (dataset.train, dataset.val, dataset.test)
        )
        return constant_mask(dataset.classes, train, val, test)


def present_classes(targets: Arrays) -> NDArray[np.bool_]:
    """Return for each image which class numbers occur in its mask, (images, 255)."""
    present = np.zeros((len(targets), 256), bool)
    for row, mask in enumerate(targets):
        present[row] = count_values(mask) > 0
    return present[:, :IGNORED]


def _check_shapes(part: Part) -> None:
    """Check that each mask is as large as its image.

    Raises:
        DataError: one is not.
    """
    images, masks = (
        values.shapes if isinstance(values, Ragged) else np.tile(values.shape[1:], (len(values), 1))
        for values in (part.images, part.targets)
    )
    differs = (images[:, :2] != masks).any(axis=1)
    if differs.any():
        row = int(differs.argmax())
        name = part.names[row] if part.names is not None else f"number {row + 1}"
        (height, width), (mask_height, mask_width) = images[row, :2], masks[row]
        count = int(differs.sum())
        size = (
            "has another size than its image"
            if count == 1
            else "have another size than their images"
        )
        raise DataError(
            f"{counted(count, 'mask')} {size} (first: "
            f"{printable(name)}: {mask_width} x {mask_height} instead of {width} x {height}). "
            "The files are damaged."
        )


def constant_mask(
    classes: Sequence[str], train: Sequence[int], val: Sequence[int], test: Sequence[int]
) -> list[Guess]:
    """Return the guesses with which masks are compared: every pixel is of the commonest class.

    It is the commonest class of the set on which the guess is measured.

    Args:
        classes: the names of the classes.
        train: the number of training pixels of each class, which breaks ties between classes.
        val: the number of validation pixels of each class.
        test: the number of test pixels of each class; all 0 if there is no test set.
    """
    return [
        Guess(classes[number], mask_values(number, val), mask_values(number, test))
        for number in commonest(train, val, test)
    ]


def mask_values(number: int, counts: Sequence[int]) -> dict[str, float]:
    """Return the metrics of masks that consist of one class.

    Of N pixels, n have this class. Its IoU is n / N, because the union are all pixels, and its Dice
    coefficient 2 n / (n + N). Both are 0 for the other classes that occur.

    Args:
        number: the number of the predicted class.
        counts: the number of pixels of each class; if all are 0, the result is empty.
    """
    if not (pixels := sum(counts)):
        return {}
    own = counts[number]
    occurring = sum(count > 0 for count in counts) + (not own)
    return {
        "iou": own / pixels / occurring,
        "dice": 2 * own / (own + pixels) / occurring,
        "pixel_accuracy": own / pixels,
    }
