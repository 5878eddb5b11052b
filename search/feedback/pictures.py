"""Images that were kept as they came: opened, shown, and compared."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.datasets.arrays import Images
from trainables.datasets.images import FORMATS, MAX_PIXELS, pixels_of
from trainables.errors import DataError
from trainables.inspection.hashes import thumbnails

LARGEST = 1024
"""The largest side of an image that is shown, in pixels."""
THUMBNAIL = 16


def opened(content: bytes) -> Image.Image:
    """Read the header of an image.

    Raises:
        DataError: not an image, of a format not allowed, or of more than 50 million pixels.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError) as error:
        raise DataError("not an image that can be read") from error
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"too many pixels (limit {MAX_PIXELS // 1_000_000} million)")
    return image


def pixels(content: bytes) -> Images:
    """Return an image as a model meets it, upright and without transparency, in RGB.

    Raises:
        DataError: it cannot be read.
    """
    with opened(content) as image:
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
