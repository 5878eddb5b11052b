"""The targets of super-resolution: for each image the same image, `scale` times larger."""

import numpy as np

from trainables.catalog.guesses import Guess
from trainables.config import DataConfig
from trainables.datasets.arrays import Arrays, Dataset, Decoded, Ragged
from trainables.datasets.masks.crops import crops_per_image, pixels_in_tiles
from trainables.datasets.photographs.reducing import SIDE_STEP, scale_of
from trainables.datasets.targets import Targets
from trainables.errors import DataError

BICUBIC = "bicubic enlargement"


class PhotographTargets(Targets):
    """Large images, in the form of `Part.images`; their sides are multiples of the small ones'."""

    copies_follow_images = True
    fills_up = True
    side_step = SIDE_STEP

    def check(self, decoded: Decoded, config: DataConfig) -> None:
        """Check that all images are enlarged by the same number.

        Raises:
            DataError: they are not, there are too few images, or `data.image_size` does not suit
                the networks.
        """
        super().check(decoded, config)
        for part in decoded.parts.values():
            small, large = _sizes(part.images), _sizes(part.targets)
            if not np.array_equal(small * config.scale, large):
                raise DataError(
                    f"the large images are not {config.scale} times as large as the small ones. "
                    "The files are damaged, or data.scale is wrong."
                )
        if config.image_size is not None and config.image_size % SIDE_STEP:
            below = config.image_size // SIDE_STEP * SIDE_STEP
            sizes = [str(size) for size in (below, below + SIDE_STEP) if size]
            raise DataError(
                f"data.image_size {config.image_size} is not a multiple of {SIDE_STEP}, which "
                f"networks for super-resolution need. Use {' or '.join(sizes)}."
            )

    def samples_per_image(self, dataset: Dataset) -> int:
        """Return the number of crops that an epoch draws from each training image."""
        return crops_per_image(dataset)

    def inputs_per_image(self, dataset: Dataset) -> float:
        """Return the pixels of the tiles of a validation image, in crops."""
        _, height, width = dataset.image
        return float(pixels_in_tiles(dataset, SIDE_STEP) / (len(dataset.val) * height * width))

    def width(self, dataset: Dataset) -> int:
        """Return the factor by which images are enlarged."""
        return scale_of(dataset.train)

    def guesses(self, dataset: Dataset) -> list[Guess]:
        """Return bicubic enlargement, from which the gain is counted.

        Other metrics are left out: they differ more between images than between the ways to enlarge
        one, so that only the gain can be compared without pairing images.
        """
        gain = {"gain": 0.0}
        return [Guess("", gain, {} if dataset.test is None else gain, method=BICUBIC)]


def _sizes(images: Arrays) -> np.ndarray:
    """Return the (height, width) of each image, (images, 2)."""
    if isinstance(images, Ragged):
        return images.shapes[:, :2]
    return np.tile(images.shape[1:3], (len(images), 1))
