"""The targets of detection: for each image the boxes around its objects."""

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.guesses import Guess
from trainables.config import DataConfig
from trainables.datasets.arrays import Arrays, Dataset, Decoded, Images, Part
from trainables.datasets.targets import (
    Colour,
    Labels,
    ObjectCounts,
    Targets,
    rarest_classes,
)
from trainables.errors import DataError, counted
from trainables.tasks.detection.predictor import class_colour, draw_boxes
from trainables.tasks.detection.values import CLASS, COLUMNS, CROWD, MAX_CLASSES, SIDE_STEP

FINDING_NOTHING = "finding nothing"
LEAST_ERROR = 0.005
"""The least standard error of a mean average precision, so that chance hits are no proof."""


class BoxTargets(Targets):
    """Boxes, (boxes, 6) for each image (`trainables.tasks.detection.values`)."""

    pads = True

    def check(self, decoded: Decoded, config: DataConfig) -> None:
        """Check that boxes have the right form and class numbers, and that there are some.

        Raises:
            DataError: they have not, there are none in the training images, or there are too few
                images.
        """
        super().check(decoded, config)
        if config.image_size is not None and config.image_size < SIDE_STEP:
            raise DataError(
                f"data.image_size must be at least {SIDE_STEP} for detection, since objects in "
                f"smaller images cannot be found (got {config.image_size})."
            )
        classes = len(decoded.classes)
        if not 0 < classes <= MAX_CLASSES:
            raise DataError(f"there are {classes} classes; 1 to {MAX_CLASSES} are allowed.")
        for part in decoded.parts.values():
            for boxes in part.targets:
                if boxes.ndim != 2 or boxes.shape[1] != COLUMNS:
                    raise DataError("the boxes have another form. The files are damaged.")
                if len(boxes) and not 0 <= boxes[:, CLASS].min() <= boxes[:, CLASS].max() < classes:
                    raise DataError(
                        f"a box has a class number outside 0 to {classes - 1}. The files are "
                        "damaged."
                    )
        if not self.class_counts(decoded.train, classes).any():
            raise DataError(
                f"the {counted(len(decoded.train), 'training image')} have no boxes, so there is "
                "nothing to learn. Check the annotations."
            )

    def image(self, dataset: Dataset) -> tuple[int, int, int]:
        """Return the (channels, height, width) to which images are padded.

        All training and validation images fit into it; height and width are multiples of 32.
        """
        sides = zip(dataset.train.shape[1:3], dataset.val.shape[1:3], strict=True)
        height, width = (-(-max(each) // SIDE_STEP) * SIDE_STEP for each in sides)
        return dataset.image[0], height, width

    def class_counts(self, part: Part, classes: int) -> Labels:
        """Count the boxes of each class that are no crowds, int64 (classes,)."""
        counts: Labels = np.zeros(classes, np.int64)
        for boxes in part.targets:
            numbers = boxes[boxes[:, CROWD] == 0, CLASS].astype(np.int64)
            counts += np.bincount(numbers, minlength=classes)
        return counts

    def count_objects(self, part: Part, classes: int) -> ObjectCounts:
        """Count the objects of each class, and the images in which it occurs."""
        present = _present(part.targets, classes)
        return ObjectCounts(
            tuple(self.class_counts(part, classes).tolist()),
            tuple(present.sum(axis=0).tolist()),
            int((~present.any(axis=1)).sum()),
        )

    def occurrences(self, part: Part, classes: int) -> NDArray[np.bool_]:
        """Find the classes that occur in each image, (images, classes)."""
        return _present(part.targets, classes)

    def class_colours(self, classes: int) -> list[Colour]:
        """Return the colour of each class in pictures."""
        return [class_colour(number) for number in range(classes)]

    def picture(self, image: Images, target: Arrays, side: int) -> Images:
        """Return an image with its boxes."""
        return draw_boxes(image, target[:, :4], target[:, CLASS].astype(int))

    def strata(self, targets: Arrays) -> Labels:
        """Return the number of the rarest class of each image; one more for no object."""
        largest = max((int(boxes[:, CLASS].max()) for boxes in targets if len(boxes)), default=0)
        present = _present(targets, largest + 1)
        return rarest_classes(np.column_stack([present, ~present.any(axis=1)]))

    def guesses(self, dataset: Dataset) -> list[Guess]:
        """Return the way of guessing that finds nothing: all its metrics are 0."""
        values, errors = {"map": 0.0, "map50": 0.0}, {"map": LEAST_ERROR, "map50": LEAST_ERROR}
        test = {} if dataset.test is None else values
        return [Guess("", values, test, errors, errors, method=FINDING_NOTHING)]


def _present(targets: Arrays, classes: int) -> NDArray[np.bool_]:
    present = np.zeros((len(targets), classes), bool)
    for row, boxes in enumerate(targets):
        present[row, boxes[:, CLASS].astype(int)] = True
    return present
