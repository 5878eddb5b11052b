"""Select the images with which new ones are compared: the validation set, or earlier images.

A model is improved if it receives images that differ from those of its validation set. The improved
model is expected to receive the same kind of images as before the improvement. Therefore its
reference is a random sample of the images from before the improvement, without training images. The
model's later accuracy is compared with its accuracy on the held-out images, whose classes are
known.

The model was registered because it was better on the held-out images, so its accuracy on them is
probably too high. The likely excess, called luck, is subtracted (`PairedComparison.luck`).
Otherwise, one model in ten would immediately appear to have become worse.
"""

from dataclasses import dataclass

import numpy as np

from search.feedback.monitoring.detector import Values
from trainables.export.reference import EarlierImages, Reference

MIN_TESTED = 20
"""Minimum number of images for a test."""
MIN_REPORTED_LUCK = 0.0005
"""The smallest luck that is mentioned in texts, as a share of the images."""
VALIDATION = "the validation images"


@dataclass(frozen=True)
class ReferenceSet:
    """The images with which new images are compared."""

    title: str
    """Name of the images for the tests of outputs and class mix, in words."""
    probabilities: Values
    right: Values
    """For each image of known class, 1 minus its luck if answered right, otherwise 0, (images,).
    """
    right_title: str
    """Name of the images of known class, in words."""

    @classmethod
    def of(cls, reference: Reference) -> "ReferenceSet":
        """Choose the images from the reference of a model."""
        validation, earlier = reference.probabilities, reference.earlier
        if earlier is None:
            right = validation.argmax(axis=1) == reference.targets[: len(validation)]
            return cls(VALIDATION, validation, right.astype(np.float64), VALIDATION)
        right, known_title = _known_class_results(earlier)
        if (count := len(earlier.probabilities)) < MIN_TESTED:
            return cls(VALIDATION, validation, right, known_title)
        title = f"{count:,} images that were answered before it was improved and not trained on"
        return cls(title, earlier.probabilities, right, known_title)


def _known_class_results(earlier: EarlierImages) -> tuple[Values, str]:
    """Compute `right` and `right_title` for an improved model."""
    right = np.maximum(0.0, (earlier.labelled.argmax(axis=1) == earlier.targets) - earlier.luck)
    title = f"the {len(right):,} images of known class that were answered before it was improved"
    if len(right) and (luck := float(earlier.luck.mean())) >= MIN_REPORTED_LUCK:
        title += f" (minus {100 * luck:.1f} points of likely luck, since it was selected on them)"
    return right.astype(np.float64), title
