"""The targets of super-resolution: for each image the same image, `scale` times larger."""

import numpy as np

from trainables.catalog.guesses import Guess
from trainables.config import DataConfig
from trainables.datasets.arrays import Arrays, Dataset, Decoded, Ragged
from trainables.datasets.crops import crops_per_image, pixels_in_tiles
from trainables.datasets.targets import Targets
from trainables.errors import DataError, counted, printable
from trainables.predictors.base import spans
from trainables.tasks.super_resolution.reducing import SIDE_STEP, scale_of

BICUBIC = "bicubic enlargement"
LEAST_ERROR = 0.01
"""The least standard error of a mean gain, in dB, also if there is a single image."""


class PhotographTargets(Targets):
    """Large images, in the form of `Part.images`; their sides are multiples of the small ones'."""

    fills_up = True
    side_step = SIDE_STEP
    most_side = 48

    def check(self, decoded: Decoded, config: DataConfig) -> None:
        """Check that all images are enlarged by the same number.

        Raises:
            DataError: they are not, there are too few images, or `data.image_size` does not suit
                the networks.
        """
        super().check(decoded, config)
        scale = scale_of(decoded.train)
        for part in decoded.parts.values():
            if not np.array_equal(_sizes(part.images) * scale, _sizes(part.targets)):
                raise DataError(
                    f"some large images are not {scale} times as large as the small ones, but "
                    "others are. The files are damaged."
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

    def width(self, dataset: Dataset) -> int:
        """Return the factor by which images are enlarged."""
        return scale_of(dataset.train)

    def remarks(self, dataset: Dataset) -> list[str]:
        """Return a warning if small images are smaller than the crops for training."""
        side = min(dataset.image[1:])
        parts = [part for part in (dataset.train, dataset.val) if part is not None]
        smaller = [
            part.names[row] if part.names is not None else f"number {row + 1}"
            for part in parts
            for row, image in enumerate(part.each())
            if min(image.shape[:2]) < side
        ]
        if not smaller:
            return []
        return [
            f"warning: {counted(len(smaller), 'small image is', 'small images are')} smaller than "
            f"the crops of {side} x {side} pixels for training, and continued by the edges (first: "
            f"{printable(smaller[0])}). Smaller crops: --set data.image_size=N, a multiple of "
            f"{SIDE_STEP}."
        ]

    def guesses(self, dataset: Dataset) -> list[Guess]:
        """Return bicubic enlargement, from which the gain is counted.

        Other metrics are left out: they differ more between images than between the ways to enlarge
        one, so that only the gain can be compared without pairing images.
        """
        gain, error = {"gain": 0.0}, {"gain": LEAST_ERROR}
        test = {} if dataset.test is None else gain
        return [Guess("", gain, test, error, error, method=BICUBIC)]


def _sizes(images: Arrays) -> np.ndarray:
    """Return the (height, width) of each image, (images, 2)."""
    if isinstance(images, Ragged):
        return images.shapes[:, :2]
    return np.tile(images.shape[1:3], (len(images), 1))
