"""Reading of image files, and resizing of arrays, with Pillow."""

import importlib
import io
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from trainables.datasets.arrays import SIXTEEN_BITS, Images
from trainables.errors import DataError
from trainables.on_disk import EncodedFiles


def _can_read_heif() -> bool:
    """Register pillow-heif, which reads HEIC photographs; False if it is not installed."""
    try:
        heif = importlib.import_module("pillow_heif")
    except ImportError:
        return False
    heif.register_heif_opener()
    return True


READ = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    **({"AVIF": (".avif",)} if features.check("avif") else {}),
    **({"HEIF": (".heic", ".heif", ".hif")} if _can_read_heif() else {}),
}
"""The formats that are read, by Pillow's names, each with the suffixes of its files."""
FORMATS = tuple(READ)
SUFFIXES = {suffix for suffixes in READ.values() for suffix in suffixes}
OTHER_IMAGES = {
    *(".heic", ".heif", ".hif", ".avif", ".jp2", ".j2k", ".jxl", ".psd", ".svg", ".tga", ".exr"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".dcm", ".nii", ".npy"),
} - SUFFIXES
"""Suffixes of image formats that are not read."""
SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
"""The first bytes of files that are recognised without a suffix."""
HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"}
MAX_PIXELS = 50_000_000
DEPTHS = {
    "I;16": "16-bit",
    "I;16L": "16-bit",
    "I;16B": "16-bit",
    "I;16N": "16-bit",
    "I": "32-bit",
    "F": "floating-point",
}
"""Pillow's modes of grey images with more than 8 bits, each with its name in messages."""
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)
"""EXIF's tag for the orientation, and its values that swap width and height."""
ORIENTATION_KEYS = frozenset({"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"})
"""The entries of Pillow's `Image.info` in which `exif_transpose` looks for the orientation."""
PHOTOGRAPH = 1_000_000
"""A JPEG with at least this number of pixels may be decoded at a smaller size."""
STRIP_PIXELS = 1_000_000
"""The number of pixels of a large image that a copying step processes at once, to save memory."""
DRAFT = 2
"""A JPEG that is decoded at a smaller size still has at least `DRAFT` times the requested size."""


class TooManyPixels(DataError):
    """An image that is not decoded because it would need too much memory."""


DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    struct.error,
)
"""The errors that Pillow and its libraries raise for damaged files."""

ValueRange = tuple[float, float]
"""The pixel values, (low, high), that become 0 and 255."""


@dataclass(frozen=True)
class Header:
    """The facts in the header of an image file."""

    size: tuple[int, int]
    """(width, height) in pixels, when the image is upright."""
    mode: str
    """Pillow's mode."""
    upper_bits: bool
    """True for a colour image with 16 bits per value, of which Pillow reads the upper 8."""
    has_frames: bool
    """True if there are several pages or frames, of which the first is used."""


def format_of(image: Path | bytes) -> str:
    """Detect the format of an image from its first bytes; empty if it is unknown.

    `image` is a path, or the content of a file.
    """
    try:
        start = image[:16] if isinstance(image, bytes) else _start(image)
    except OSError:
        return ""
    if start[4:8] == b"ftyp":
        return (
            "AVIF"
            if start[8:12] in (b"avif", b"avis")
            else ("HEIF" if start[8:12] in HEIF_BRANDS else "")
        )
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    return next((name for sign, name in SIGNATURES.items() if start.startswith(sign)), "")


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def looks_like_an_image(path: Path) -> bool:
    """True if a file's first bytes are those of an image format that is read."""
    return format_of(path) in READ


def advice(suffixes: Iterable[str]) -> str:
    """Suggest how to convert images of formats that are not read, given their suffixes."""
    if {".heic", ".heif", ".hif"} & set(suffixes):
        return (
            "To read .heic files, run `pip install pillow-heif`; convert other formats to PNG or "
            "JPEG."
        )
    return "Convert them to PNG or JPEG."


def resize(images: Images, size: int | None) -> Images:
    """Resize images, (count, height, width, channels), to `size` x `size`, bilinearly.

    If `size` is None, they are returned unchanged.
    """
    if size is None or images.shape[1:3] == (size, size):
        return images
    return np.stack(
        [
            as_array(
                Image.fromarray(image.squeeze()).resize((size, size), Image.Resampling.BILINEAR)
            )
            for image in images
        ]
    )


def as_array(image: Image.Image) -> Images:
    """Convert a Pillow image to uint8 (height, width, channels); a grey image has 1 channel."""
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def open_image(source: Path | bytes, most_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image without decoding it, and check its format and size.

    If it has several frames, the first is used.

    Args:
        source: the path of a file, or its content.
        most_pixels: the maximum number of pixels.

    Raises:
        DataError: it is not an image in a supported format, or has too many pixels.
    """
    try:
        image = Image.open(
            io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS
        )
    except Image.DecompressionBombError as error:
        raise TooManyPixels(
            f"the image has too many pixels (at most {MAX_PIXELS // 1_000_000} million are allowed)"
        ) from error
    except DAMAGED as error:
        raise DataError(_refusal_of(source)) from error
    if image.width * image.height > most_pixels:
        image.close()
        raise TooManyPixels(
            f"the image has {image.width * image.height // 1_000_000} million pixels "
            f"(at most {most_pixels // 1_000_000} million are allowed)"
        )
    return image


def _refusal_of(source: Path | bytes) -> str:
    """Return the reason why a file, or its content, cannot be opened as an image."""
    kind = format_of(source)
    if kind == "HEIF" and kind not in READ:
        return "the file is a HEIC photograph; to read it, run `pip install pillow-heif`"
    if kind:
        return f"the {kind} file is damaged or of an unsupported kind"
    is_empty = (
        not source if isinstance(source, bytes) else source.exists() and not source.stat().st_size
    )
    return "the file is empty" if is_empty else "the file is not an image"


def header(path: Path) -> Header | None:
    """Read the header of an image without decoding it; None if it cannot be read."""
    try:
        with open_image(path) as image:
            tiles = getattr(image, "tile", None)
            arguments = tiles[0].args if tiles else ""
            raw = arguments if isinstance(arguments, str) else str((arguments or ("",))[0])
            upper_bits = image.mode not in DEPTHS and ";16" in raw
            size = image.size[::-1] if _is_sideways(image, path) else image.size
            # The other frames of an MPO (a JPEG) are previews, or maps of its brightness.
            has_frames = image.format != "MPO" and getattr(image, "is_animated", False)
            return Header(size, image.mode, upper_bits, has_frames)
    except DAMAGED:
        return None


def _is_sideways(image: Image.Image, path: Path) -> bool:
    """True if turning the image upright swaps width and height."""
    if image.width == image.height or image.format == "TIFF":
        return False
    if image.format == "PNG" and not _has_late_metadata(path):
        # `PngImageFile.getexif` decodes the whole image first, as EXIF may come after the pixels.
        return Image.Image.getexif(image).get(ORIENTATION) in SIDEWAYS
    return image.getexif().get(ORIENTATION) in SIDEWAYS


def _has_late_metadata(path: Path) -> bool:
    """True if a PNG has EXIF or XMP after its pixels, or is damaged."""
    descriptor, place, is_behind = os.open(path, os.O_RDONLY), 8, False
    try:
        while True:
            start = os.pread(descriptor, 32, place)
            kind = start[4:8]
            if len(start) < 12 or kind == b"IEND":
                return kind != b"IEND"
            if is_behind and (
                kind == b"eXIf" or start[8:].startswith((b"XML:com", b"Raw profile", b"exif"))
            ):
                return True
            is_behind = is_behind or kind == b"IDAT"
            place += 12 + int.from_bytes(start[:4], "big")
    finally:
        os.close(descriptor)


def extremes(path: Path) -> ValueRange | None:
    """Return the smallest and the largest value of an image of more than 8 bits.

    None if the image cannot be read, or if one of the values is not finite.
    """
    try:
        with open_image(path) as image:
            values = np.asarray(image)
            limits = float(values.min()), float(values.max())
            return limits if np.isfinite(limits).all() else None
    except DAMAGED:
        return None


def decode(
    path: Path, size: tuple[int, int] | None, mode: str, value_range: ValueRange = SIXTEEN_BITS
) -> Images:
    """Decode one file to uint8 (height, width, channels) in `mode` "L" or "RGB".

    The image is turned upright, and resized to `size`, (width, height), unless that is None. In an
    image of more than 8 bits, values in `value_range` become 0 to 255. Transparent pixels become
    white.

    Raises:
        DataError: the file is not an image, or is damaged.
    """
    return decode_telling(path, size, mode, value_range)[0]


def files_to_decode(
    root: Path,
    names: Sequence[str],
    stamps: NDArray[np.int64],
    shape: tuple[int, int, int],
    value_range: ValueRange | None,
) -> EncodedFiles:
    """Return image files that are decoded with `decode` whenever they are used.

    Args:
        root: the folder of the files.
        names: the path of each file relative to `root`.
        stamps: the `stamp_of` each file, (files, 2).
        shape: the (height, width, channels) of all decoded images.
        value_range: as for `decode`; None for images of 8 bits.
    """
    return EncodedFiles(
        root.absolute(), tuple(names), stamps, shape, value_range or SIXTEEN_BITS, decode
    )


def decode_telling(
    path: Path, size: tuple[int, int] | None, mode: str, value_range: ValueRange
) -> tuple[Images, bool]:
    """Decode like `decode`; the second result is True if any pixel was transparent."""
    with open_image(path) as image:
        return decode_opened(image, size, mode, value_range)


def decode_opened(
    image: Image.Image, size: tuple[int, int] | None, mode: str, value_range: ValueRange
) -> tuple[Images, bool]:
    """Decode an image that `open_image` has opened; the result is that of `decode_telling`."""
    try:
        if size is not None and image.format == "JPEG" and image.width * image.height >= PHOTOGRAPH:
            image.draft(None, (DRAFT * max(size), DRAFT * max(size)))
        turn_upright(image)
        upright, was_transparent = _in_mode(image, mode, value_range)
    except DAMAGED as error:
        raise (
            error if isinstance(error, DataError) else DataError("the image is damaged or cut off")
        ) from error
    pixels = as_array(
        upright.resize(size, Image.Resampling.BILINEAR)
        if size and upright.size != size
        else upright
    )
    return pixels, was_transparent


def turn_upright(image: Image.Image) -> None:
    """Turn an image upright, by its EXIF or XMP tag.

    `exif_transpose` takes time even without a tag, so it is skipped for most PNG files.
    """
    image.load()  # in a PNG the tags may come after the pixels
    if image.format != "PNG" or not ORIENTATION_KEYS.isdisjoint(image.info):
        ImageOps.exif_transpose(image, in_place=True)


def _in_mode(image: Image.Image, mode: str, value_range: ValueRange) -> tuple[Image.Image, bool]:
    """Convert an upright image to this mode; the second result is True if it was transparent."""
    if image.mode not in DEPTHS and _is_transparent(image):
        return on_white(image, mode), True
    converted = image
    if image.mode in DEPTHS:
        converted = Image.fromarray(to_levels(np.asarray(image), value_range))
    return (converted if converted.mode == mode else converted.convert(mode)), False


def pixels_of(image: Image.Image, mode: str, value_range: ValueRange = SIXTEEN_BITS) -> Images:
    """Decode an opened image like `decode`, but without resizing.

    Raises:
        DataError: the image is damaged, or its values are not numbers.
    """
    try:
        upright: Image.Image = ImageOps.exif_transpose(image)
        return as_array(_in_mode(upright, mode, value_range)[0])
    except DAMAGED as error:
        raise (
            error if isinstance(error, DataError) else DataError("the image is damaged or cut off")
        ) from error


def _strips(image: Image.Image) -> Iterator[tuple[tuple[int, int, int, int], Image.Image]]:
    """Yield an image in strips, each as (box, RGBA image), so that it is never copied as a whole.

    The box is (left, top, right, bottom).
    """
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        yield box, image.crop(box).convert("RGBA")


def _is_transparent(image: Image.Image) -> bool:
    return image.has_transparency_data and any(
        strip.getchannel("A").getextrema() != (255, 255) for _, strip in _strips(image)
    )


def on_white(image: Image.Image, mode: str) -> Image.Image:
    """Convert an image to this mode, on a white background."""
    canvas = Image.new(mode, image.size)
    for box, strip in _strips(image):
        ground = Image.new("RGBA", strip.size, "white")
        ground.alpha_composite(strip)
        canvas.paste(ground.convert(mode), box)
    return canvas


def to_levels(values: NDArray[np.generic], value_range: ValueRange) -> Images:
    """Scale values from `value_range` to 0 to 255, as uint8; values outside are clipped.

    Raises:
        DataError: some values are not finite.
    """
    if (
        values.size > STRIP_PIXELS and len(values) > 1
    ):  # limits the memory: temporary arrays have 8 bytes per value
        scaled = np.empty(values.shape, dtype=np.uint8)
        rows = max(1, STRIP_PIXELS * len(values) // values.size)
        for top in range(0, len(values), rows):
            scaled[top : top + rows] = to_levels(values[top : top + rows], value_range)
        return scaled
    low, high = value_range
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise DataError("the image contains NaN or infinite values")
        levels = np.rint((values.astype(np.float64) - low) * (255 / (high - low)))
    else:
        levels = (values.astype(np.int64) - int(low)) * 255 // (int(high) - int(low))
    return levels.clip(0, 255).astype(np.uint8)
