"""Images that were kept as they came: opened, shown, and compared."""

import io
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.datasets.arrays import SIXTEEN_BITS, Images
from trainables.datasets.images import DAMAGED, DEPTHS, ValueRange, open_image, pixels_of
from trainables.errors import DataError
from trainables.inspection.hashes import thumbnails

LARGEST = 1024
"""The largest side of an image that is shown, in pixels."""
THUMBNAIL = 16


def pixels(content: bytes | Path, largest: int = LARGEST) -> Images:
    """Return an image upright and without transparency, in RGB.

    A large JPEG is decoded at a smaller size, at which its sides still are `largest` or more.

    Raises:
        DataError: it cannot be read.
    """
    with open_image(content) as image:
        image.draft(None, (2 * largest, 2 * largest))
        return pixels_of(image, "RGB", _range_of(image))


def _range_of(image: Image.Image) -> ValueRange:
    """Return the values that become 0 and 255: of more than 8 bits, all that the image has.

    The records do not know the range of the training images; by 0 to 65535 an image of 12 bits
    would be black.
    """
    if image.mode not in DEPTHS:
        return SIXTEEN_BITS
    try:
        values = np.asarray(image)
    except DAMAGED as error:
        raise DataError("the image is damaged or cut off") from error
    low, high = float(values.min()), float(values.max())
    return (low, high) if isfinite(low) and isfinite(high) and low < high else SIXTEEN_BITS


def as_png(content: bytes | Path, largest: int = LARGEST) -> bytes:
    """Return an image, or that of a file, as every browser shows it.

    A larger one is made smaller, to sides of at most `largest` pixels.

    Raises:
        DataError: it cannot be read.
    """
    image = Image.fromarray(pixels(content, largest))
    image.thumbnail((largest, largest))
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def thumbnail(content: bytes) -> NDArray[np.float32]:
    """Return a thumbnail as a vector; the product of two is their correlation.

    Raises:
        DataError: it cannot be read.
    """
    return thumbnails(pixels(content)[None], THUMBNAIL).reshape(-1)
