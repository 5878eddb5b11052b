"""The most confident mistakes of a classifier, with thumbnails."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.datasets.arrays import Images, Part
from trainables.errors import printable
from trainables.values import Json

MAX_MISTAKES = 12
GAP = 4
"""The pixels between two pictures of a strip."""
LARGEST, TINY = 112, 64
"""The maximum side of a thumbnail, and the maximum side of an image that is stored losslessly."""


def confidently_wrong(part: Part, chances: NDArray[np.float64]) -> list[Json]:
    """List the wrong guesses with the highest probability, the most confident first.

    Args:
        part: the images and their true classes.
        chances: class probabilities, (images, classes).

    Returns:
        At most `MAX_MISTAKES` dicts of JSON-compatible values: the image's `row` in the part, the
        class numbers `true` and `guess`, the probability of the guess (`confidence`), the image as
        a WebP in base64 (`webp`) and, if the image is a file, its path below the data set's root
        (`name`).
    """
    guesses = chances.argmax(axis=1)
    wrong = np.flatnonzero(guesses != part.targets)
    surest = wrong[np.argsort(-chances[wrong, guesses[wrong]], kind="stable")][:MAX_MISTAKES]
    return [
        {
            "row": int(row),
            "true": int(part.targets[row]),
            "guess": int(guesses[row]),
            "confidence": float(chances[row, guesses[row]]),
            "webp": encode_webp(part.images[row]),
            **({} if part.names is None else {"name": printable(part.names[row])}),
        }
        for row in surest
    ]


def encode_webp(pixels: Images) -> str:
    """Encode an image as a WebP thumbnail in base64, for an evaluation."""
    return base64.b64encode(thumbnail(pixels)).decode()


def thumbnail(pixels: Images) -> bytes:
    """Encode an image as a WebP with sides of at most `LARGEST` pixels.

    Images of at most `TINY` pixels a side are encoded losslessly.

    Args:
        pixels: uint8 (height, width, channels), with 1 or 3 channels.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    is_tiny = max(image.size) <= TINY
    image.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=is_tiny, quality=85)
    return buffer.getvalue()


def encode_strip(pictures: Sequence[Image.Image]) -> str:
    """Encode RGB pictures side by side as a WebP in base64, for an evaluation."""
    width = sum(picture.width + GAP for picture in pictures) - GAP
    strip = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    offset = 0
    for picture in pictures:
        strip.paste(picture, (offset, 0))
        offset += picture.width + GAP
    buffer = io.BytesIO()
    strip.save(buffer, "WEBP", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()
