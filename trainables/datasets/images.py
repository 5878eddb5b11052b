"""Pixels: resizing arrays and reading image files, through Pillow."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from trainables.datasets.arrays import Images
from trainables.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
MAX_PIXELS = 50_000_000


def resize(images: Images, size: int | None) -> Images:
    """Bilinear, to `size` x `size`; None leaves (count, height, width, channels) as it is."""
    if size is None or images.shape[1:3] == (size, size):
        return images
    return np.stack([as_array(Image.fromarray(image.squeeze()).resize((size, size), Image.Resampling.BILINEAR)) for image in images])


def as_array(image: Image.Image) -> Images:
    """(height, width, channels) with 1 channel for grey images and 3 for RGB."""
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def open_image(path: Path) -> Image.Image:
    """Read the header of an image of an allowed format and size; its first frame counts, turned as its EXIF tag says.

    Raises:
        DataError: not an image, of a format not allowed, or of more than 50 million pixels.
    """
    try:
        image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise DataError(f"too many pixels (limit {MAX_PIXELS // 1_000_000} million)") from error
    except (OSError, ValueError, SyntaxError, TypeError) as error:
        raise DataError("not an image") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise DataError(f"{image.width * image.height // 1_000_000} million pixels (limit {MAX_PIXELS // 1_000_000} million)")
    return image


def decode(path: Path, size: tuple[int, int] | None, mode: str) -> Images:
    """Decode one file to (height, width, channels) in `mode` "L" or "RGB", resized to `size` (width, height) if given.

    Raises:
        DataError: the file is not an image or is cut off.
    """
    with open_image(path) as image:
        try:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):
                upright = Image.fromarray((np.asarray(upright) // 257).astype(np.uint8))
            upright = upright.convert(mode)
        except (OSError, SyntaxError, ValueError, TypeError) as error:
            raise DataError("the image is damaged or cut off") from error
    return as_array(upright.resize(size, Image.Resampling.BILINEAR) if size and upright.size != size else upright)
