"""Reduced copies of images, from which networks learn to make the large ones."""

import numpy as np
from PIL import Image

from trainables.datasets.arrays import Arrays, Images, Part, PartSubset
from trainables.datasets.images import as_array

SIDE_STEP = 4
"""The sides of small crops are multiples of this number of pixels.

The autoencoder halves an enlarged crop up to twice.
"""
LEAST_SIDE = 16
"""The minimum shorter side of a small image, in pixels: less shows hardly any detail."""


def cut_to_multiple(image: Images, scale: int) -> Images:
    """Remove the last rows and columns, so that height and width are multiples of `scale`."""
    height, width = (side - side % scale for side in image.shape[:2])
    return image[:height, :width]


def reduce(image: Images, scale: int) -> Images:
    """Reduce an image, whose sides are multiples of `scale`, by antialiased bicubic interpolation.

    The filter is that of MATLAB's `imresize`, with which published test images were reduced: a
    cubic with a = -0.5, widened by `scale` (Keys 1981).
    """
    height, width = image.shape[:2]
    small = Image.fromarray(image.squeeze(axis=2) if image.shape[2] == 1 else image).resize(
        (width // scale, height // scale), Image.Resampling.BICUBIC
    )
    return as_array(small)


def scale_of(part: Part) -> int:
    """Return the factor by which the targets of a part are larger than its images."""
    whole = part.whole if isinstance(part, PartSubset) else part
    return int(_first_height(whole.targets) // _first_height(whole.images))


def _first_height(images: Arrays) -> int:
    return int(np.shape(images[0])[0])
