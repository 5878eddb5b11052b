"""Pictures and table values for an evaluation, as JSON-compatible values."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from trainables.datasets.arrays import Images, Part
from trainables.errors import printable
from trainables.values import Json

GAP = 4
"""The pixels between two pictures of a strip."""
LARGEST, TINY = 112, 64
"""The maximum side of a thumbnail, and the maximum side of an image that is stored losslessly."""


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


def title_of(part: Part, row: int) -> str:
    """Return the name of an image of a part, or its number without names."""
    return printable(part.names[row]) if part.names is not None else f"image {row + 1}"


def table_value(value: float) -> float | str:
    """Return a value for a table; NaN becomes `none`."""
    return "none" if np.isnan(value) else float(value)


def to_rgb(pixels: Images) -> Image.Image:
    """Convert pixels, uint8 (height, width, channels) with 1 or 3 channels, to an RGB picture."""
    return Image.fromarray(pixels.squeeze(axis=2) if pixels.shape[2] == 1 else pixels).convert(
        "RGB"
    )


def strip(title: str, pictures: Sequence[Image.Image]) -> Json:
    """Put RGB pictures side by side, as one of the `pictures` of `Task.evaluate`."""
    width = sum(picture.width + GAP for picture in pictures) - GAP
    joined = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    offset = 0
    for picture in pictures:
        joined.paste(picture, (offset, 0))
        offset += picture.width + GAP
    buffer = io.BytesIO()
    joined.save(buffer, "WEBP", quality=85)
    webp = base64.b64encode(buffer.getvalue()).decode()
    return {"title": title, "webp": webp, "is_wide": True}
