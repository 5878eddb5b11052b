"""A trained classifier in the form that explanations need. It does not import torch.

Images are uint8 (images, height, width, channels), in the size of the training images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.arrays import Images

if TYPE_CHECKING:
    from trainables.explanations.networks import Logits

Floats = NDArray[np.float64]
Maps = NDArray[np.float64]
"""Maps, (images, height, width); higher values support the class more."""
Numbers = NDArray[np.int64]
"""Class numbers, (images,)."""

BATCH = 128
"""The number of images for which a model computes its predictions at once."""


@dataclass(frozen=True)
class ExplainableModel:
    """A trained classifier whose predictions can be explained."""

    predict_batch: Callable[[Images], Floats]
    """Computes class probabilities, (images, classes)."""
    networks: "Sequence[Logits]"
    """The networks of the model, more than one with folds; empty for a baseline without any."""
    fill: NDArray[np.uint8]
    """The mean colour of the training images, (channels,), which stands for missing pixels."""

    def predict(self, images: Images) -> Floats:
        """Compute class probabilities, (images, classes), batch by batch."""
        return np.concatenate(
            [
                self.predict_batch(np.ascontiguousarray(images[first : first + BATCH]))
                for first in range(0, len(images), BATCH)
            ]
        )
