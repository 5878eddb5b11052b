"""The images with which new ones are compared: validation images, or those of an improvement.

A model is improved because it meets other images than those of its validation set. What it is
expected to meet since then is what was met before: its answers on a random sample of that which its
training did not use. Its accuracy is compared with that on the held-out images of known class.

The model was registered because it was better on these images, so its accuracy on them is likely
too high. By how much is subtracted (`Paired.luck`): otherwise one in ten would seem to have become
worse at once.
"""

from dataclasses import dataclass

import numpy as np

from search.feedback.monitoring.detector import Values
from trainables.export.reference import Met, Reference

LEAST = 20
"""The images without which nothing is tested."""
LEAST_LUCK = 0.0005
"""The least luck that is reported, as a share."""
VALIDATION = "the validation images"


@dataclass(frozen=True)
class HeldTo:
    """The images with which new ones are compared."""

    title: str
    """Their name in texts, for outputs and class mix."""
    probabilities: Values
    right: Values
    """How much each image of known class counts as answered right, from 0 to 1, (images,)."""
    right_title: str

    @classmethod
    def of(cls, reference: Reference) -> "HeldTo":
        """Choose the images by a model's reference."""
        plain, met = reference.probabilities, reference.met
        if met is None:
            right = plain.argmax(axis=1) == reference.targets[: len(plain)]
            return cls(VALIDATION, plain, right.astype(np.float64), VALIDATION)
        right, known = _known(met)
        if (count := len(met.probabilities)) < LEAST:
            return cls(VALIDATION, plain, right, known)
        title = f"{count:,} images that were met before it was improved and not trained on"
        return cls(title, met.probabilities, right, known)


def _known(met: Met) -> tuple[Values, str]:
    """Return how much each image of known class counts as right, and the name of these images."""
    right = np.maximum(0.0, (met.labelled.argmax(axis=1) == met.targets) - met.luck)
    known = f"the {len(right):,} images of known class that were met before it was improved"
    if len(right) and (luck := float(met.luck.mean())) >= LEAST_LUCK:
        known += f" (less {100 * luck:.1f} points, the likely luck of being chosen by them)"
    return right.astype(np.float64), known
