"""The images with which new ones are compared: validation images, or those of an improvement.

A model is improved because it meets other images than those of its validation set. After the
improvement it is expected to meet images like those before: its reference is a random sample of
them that its training did not use. Its accuracy is compared with that on the held-out images of
known class.

The model was registered because it was better on these images, so its accuracy on them is likely
too high. The likely excess is subtracted (`PairedComparison.luck`): otherwise one model in ten
would appear to be worse at once.
"""

from dataclasses import dataclass

import numpy as np

from search.feedback.monitoring.detector import Values
from trainables.export.reference import EarlierImages, Reference

MIN_TESTED = 20
"""The fewest images for a test."""
MIN_REPORTED_LUCK = 0.0005
"""The smallest luck that is reported, as a share."""
VALIDATION = "the validation images"


@dataclass(frozen=True)
class ReferenceSet:
    """The images with which new ones are compared."""

    title: str
    """Their name in texts, for outputs and class mix."""
    probabilities: Values
    right: Values
    """How much each image of known class counts as answered right, from 0 to 1, (images,)."""
    right_title: str

    @classmethod
    def of(cls, reference: Reference) -> "ReferenceSet":
        """Choose the images from a model's reference."""
        validation, earlier = reference.probabilities, reference.earlier
        if earlier is None:
            right = validation.argmax(axis=1) == reference.targets[: len(validation)]
            return cls(VALIDATION, validation, right.astype(np.float64), VALIDATION)
        right, known_title = _known_class_results(earlier)
        if (count := len(earlier.probabilities)) < MIN_TESTED:
            return cls(VALIDATION, validation, right, known_title)
        title = f"{count:,} images that were met before it was improved and not trained on"
        return cls(title, earlier.probabilities, right, known_title)


def _known_class_results(earlier: EarlierImages) -> tuple[Values, str]:
    """Rate the answers on the images of known class, from 0 to 1, and name these images."""
    right = np.maximum(0.0, (earlier.labelled.argmax(axis=1) == earlier.targets) - earlier.luck)
    title = f"the {len(right):,} images of known class that were met before it was improved"
    if len(right) and (luck := float(earlier.luck.mean())) >= MIN_REPORTED_LUCK:
        title += f" (less {100 * luck:.1f} points, the likely luck of being chosen by them)"
    return right.astype(np.float64), title
