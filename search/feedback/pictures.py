"""Images that were kept as they came: opened, shown, and compared."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.datasets.arrays import Images
from trainables.datasets.images import open_image, pixels_of
from trainables.inspection.hashes import thumbnails

LARGEST = 1024
"""The largest side of an image that is shown, in pixels."""
THUMBNAIL = 16


def pixels(content: bytes) -> Images:
    """Return an image as a model meets it, upright and without transparency, in RGB.

    Raises:
        DataError: it cannot be read.
    """
    with open_image(content) as image:
        image.draft(None, (2 * LARGEST, 2 * LARGEST))
        return pixels_of(image, "RGB")


def as_png(content: bytes) -> bytes:
    """Return an image as every browser shows it, made smaller if it is large.

    Raises:
        DataError: it cannot be read.
    """
    image = Image.fromarray(pixels(content))
    image.thumbnail((LARGEST, LARGEST))
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def thumbnail(content: bytes) -> NDArray[np.float32]:
    """Return a thumbnail as a vector; the product of two is their correlation.

    Raises:
        DataError: it cannot be read.
    """
    return thumbnails(pixels(content)[None], THUMBNAIL).reshape(-1)
