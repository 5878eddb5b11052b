"""Pictures of explanations: an image, and its map drawn over it."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.datasets.arrays import Images

SIDE = 224
"""The longer side of a picture, in pixels."""
SMALL = SIDE // 2
"""Images of at most this side are enlarged without interpolation, so that pixels stay visible."""
COLOURS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)])
"""Five points of the colour map viridis, which stays readable for people who see few colours."""
OPACITY = 0.75
"""The opacity of the highest values; lower ones are more transparent."""
WEBP_QUALITY = 85
TOP_QUANTILE = 0.995
"""The quantile of a map that gets the brightest colour, so that single pixels do not hide others.
"""


def draw_image(pixels: Images) -> bytes:
    """Draw an image, uint8 (height, width, channels), as PNG."""
    return _encode(_enlarge(pixels))


def draw_map(pixels: Images, values: NDArray[np.float64]) -> bytes:
    """Draw the positive values of a map, (height, width), over its image in grey, as PNG."""
    positive = np.maximum(values, 0)
    top = np.quantile(positive, TOP_QUANTILE) or positive.max()
    share = np.minimum(1, positive / top) if top else positive
    levels = _enlarge(np.round(255 * share).astype(np.uint8)[..., None]).convert("L")
    strength = np.asarray(levels)[..., None] / 255
    points = np.linspace(0, 1, len(COLOURS))
    colours = np.concatenate(
        [np.interp(strength, points, COLOURS[:, channel]) for channel in range(3)], axis=2
    )
    grey = np.asarray(_enlarge(pixels).convert("L"))[..., None]
    opacity = OPACITY * strength
    mixed = (1 - opacity) * grey + opacity * colours
    return _encode(Image.fromarray(np.round(mixed).astype(np.uint8)))


def to_webp(picture: bytes) -> bytes:
    """Convert a PNG to a WebP, which is much smaller and looks the same."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as image:
        image.save(buffer, "WEBP", quality=WEBP_QUALITY)
    return buffer.getvalue()


def _enlarge(pixels: Images) -> Image.Image:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    scale = SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    is_small = max(image.size) <= SMALL
    return image.resize(size, Image.Resampling.NEAREST if is_small else Image.Resampling.BILINEAR)


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
