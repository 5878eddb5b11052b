"""Decode recorded images, convert them for browsers, and compute thumbnails."""

import io
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.datasets.arrays import SIXTEEN_BITS, Images
from trainables.datasets.images import DAMAGED, DEPTHS, ValueRange, open_image, pixels_of
from trainables.errors import DataError
from trainables.inspection.copies import thumbnails

MAX_SIDE = 1024
"""Maximum side length of an image that is shown in a browser, in pixels."""
THUMBNAIL_SIDE = 16
"""Side length of the thumbnails by which images are compared, in pixels."""


def pixels(content: bytes | Path, max_side: int = MAX_SIDE) -> Images:
    """Decode an image to RGB, upright and without transparency, (height, width, 3).

    `content` is the bytes of an image file, or its path. A large JPEG is decoded at a reduced size;
    its sides are still at least `max_side`.

    Raises:
        DataError: the image cannot be read.
    """
    with open_image(content) as image:
        image.draft(None, (2 * max_side, 2 * max_side))
        return pixels_of(image, "RGB", _range_of(image))


def _range_of(image: Image.Image) -> ValueRange:
    """Find the pixel values that are mapped to 0 and 255.

    For images of more than 8 bits, these are the image's own minimum and maximum. The records do
    not contain the value range of the training images, and a 12-bit image would look black if the
    range were 0 to 65535.
    """
    if image.mode not in DEPTHS:
        return SIXTEEN_BITS
    try:
        values = np.asarray(image)
    except DAMAGED as error:
        raise DataError("the image is damaged or cut off") from error
    low, high = float(values.min()), float(values.max())
    return (low, high) if isfinite(low) and isfinite(high) and low < high else SIXTEEN_BITS


def as_png(content: bytes | Path, max_side: int = MAX_SIDE) -> bytes:
    """Convert an image to a PNG that every browser can display.

    `content` is the bytes of an image file, or its path. Images with sides above `max_side` pixels
    are scaled down.

    Raises:
        DataError: the image cannot be read.
    """
    image = Image.fromarray(pixels(content, max_side))
    image.thumbnail((max_side, max_side))
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def thumbnail(content: bytes) -> NDArray[np.float32]:
    """Compute the thumbnail of an image file as a flat vector.

    The dot product of two thumbnails is their correlation.

    Raises:
        DataError: the image cannot be read.
    """
    return thumbnails(pixels(content)[None], THUMBNAIL_SIDE).reshape(-1)
