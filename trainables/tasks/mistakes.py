"""The wrong guesses of which a classifier is most confident, with small images to show."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.datasets.arrays import Images, Part
from trainables.errors import printable
from trainables.values import Json

SHOWN = 12
LARGEST, TINY = 112, 64
"""The maximum side of a thumbnail, and the side up to which an image is kept pixel by pixel."""


def confidently_wrong(part: Part, chances: NDArray[np.float64]) -> list[Json]:
    """Return the wrong guesses of highest probability, the most confident first.

    Args:
        part: the images and their true classes.
        chances: class probabilities, (images, classes).

    Returns:
        At most `SHOWN`, as plain values: `row` in the part, class numbers `true` and `guess`, the
        guess's probability `confidence`, the image as a WebP in base64, `webp`, and where the image
        is a file its `name` below the data set's root.
    """
    guesses = chances.argmax(axis=1)
    wrong = np.flatnonzero(guesses != part.targets)
    surest = wrong[np.argsort(-chances[wrong, guesses[wrong]], kind="stable")][:SHOWN]
    return [
        {
            "row": int(row),
            "true": int(part.targets[row]),
            "guess": int(guesses[row]),
            "confidence": float(chances[row, guesses[row]]),
            "webp": shown(part.images[row]),
            **({} if part.names is None else {"name": printable(part.names[row])}),
        }
        for row in surest
    ]


def shown(pixels: Images) -> str:
    """Return an image as an evaluation holds it: a small WebP (`thumbnail`) in base64."""
    return base64.b64encode(thumbnail(pixels)).decode()


def thumbnail(pixels: Images) -> bytes:
    """Return an image as a WebP no larger than it is to be shown.

    Args:
        pixels: uint8 (height, width, channels: 1 or 3).
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    is_tiny = max(image.size) <= TINY
    image.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=is_tiny, quality=85)
    return buffer.getvalue()
