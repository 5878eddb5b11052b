"""The fifteen common corruptions of Hendrycks and Dietterich (2019), for images of any size.

They follow the published code on NumPy, SciPy and Pillow, with the parameters in `stress_tests`.
The differences are:

- Frost is drawn: the published one adds crops of six photographs, which are not part of this
  project. Its strength is the published one, its texture is not.
- Motion blur computes the kernel of ImageMagick's `MotionBlurImage` directly.
- The kernel of the defocus blur has the sum 1; the published ones of 8 pixels and more have 1.01.
- Zoom blur has larger factors in images below 32 pixels, which it would not change otherwise.
- Values are rounded to 8 bits, where the published code cuts off decimals: at most 1 of 255.
- Images need not be square, and grey images stay grey.
"""

import io
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import affine_transform, gaussian_filter, map_coordinates
from scipy.signal import fftconvolve

from trainables.datasets.arrays import Images
from trainables.errors import unknown
from trainables.robustness.stress_tests import SMALL_SIDE, parameters_of

Units = NDArray[np.float32]
"""An image with values from 0 to 1, (height, width, channels)."""

FROST_TINT = (0.86, 0.94, 1.0)
"""The colour of frost: a little blue."""
GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)
"""The share of red, green and blue in the brightness (ITU-R BT.601)."""


def corrupt(image: Images, name: str, severity: int, seed: int) -> Images:
    """Corrupt an image. The result is equal for equal arguments.

    Args:
        image: uint8 (height, width, 1 or 3 channels).
        name: the corruption, one of `CORRUPTIONS`.
        severity: 1 (weak) to 5 (strong).
        seed: the seed of the noise, which should differ between images.

    Returns:
        uint8 of the same shape.

    Raises:
        ValueError: the name, the severity or the shape of the image is not valid.
    """
    if name not in CORRUPTIONS:
        raise ValueError(unknown("corruption", name, CORRUPTIONS))
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.dtype != np.uint8:
        raise ValueError(
            "an image must be uint8 of shape (height, width, 1 or 3) "
            f"(got {image.dtype} {image.shape})"
        )
    parameters = parameters_of(name, severity, min(image.shape[:2]))
    generator = np.random.default_rng([seed, list(CORRUPTIONS).index(name), severity])
    units = image.astype(np.float32) / np.float32(255)
    corrupted = CORRUPTIONS[name](units, generator, *parameters)
    return np.rint(np.clip(corrupted, 0, 1) * 255).astype(np.uint8)


def corrupt_all(images: Images, name: str, severity: int, seeds: Sequence[int]) -> Images:
    """Corrupt each of several images (count, height, width, channels) with its own seed."""
    return np.stack(
        [corrupt(image, name, severity, seed) for image, seed in zip(images, seeds, strict=True)]
    )


def _gaussian_noise(image: Units, generator: Generator, deviation: float) -> Units:
    noise: Units = np.float32(deviation) * generator.standard_normal(image.shape, np.float32)
    return image + noise


def _shot_noise(image: Units, generator: Generator, photons: float) -> Units:
    return (generator.poisson(image * photons) / photons).astype(np.float32)


def _impulse_noise(image: Units, generator: Generator, share: float) -> Units:
    draws = generator.random(image.shape, np.float32)
    # Half of the changed values become black, half of them white.
    return np.where(draws < share / 2, 0, np.where(draws < share, 1, image)).astype(np.float32)


def _defocus_blur(image: Units, generator: Generator, radius: float, smoothing: float) -> Units:
    kernel = _disk(radius, smoothing)
    reach = len(kernel) // 2
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    blurred: Units = fftconvolve(padded, kernel[..., None], mode="valid", axes=(0, 1))
    return blurred


def _disk(radius: float, smoothing: float) -> Units:
    """Return a smoothed disk with the sum 1, (side, side)."""
    taps = 1 if radius <= 8 else 2
    reach = math.ceil(radius) + taps
    grid = np.arange(-reach, reach + 1)
    disk = (grid[:, None] ** 2 + grid**2 <= radius**2).astype(np.float32)
    kernel: Units = gaussian_filter(disk / disk.sum(), smoothing, mode="constant", radius=taps)
    return kernel


def _glass_blur(image: Units, generator: Generator, deviation: float, *lengths: float) -> Units:
    distance, passes = (max(1, round(length)) for length in lengths)
    height, width, channels = image.shape
    blurred = _blurred(image, deviation)
    rows = np.arange(height - distance, distance, -1)
    columns = np.arange(width - distance, distance, -1)
    targets = (rows[:, None] * width + columns).ravel()
    order = list(range(height * width))
    for _ in range(passes):
        moves = generator.integers(-distance, distance, (2, len(targets)))
        sources = targets + moves[0] * width + moves[1]
        # Each pixel becomes a copy of a neighbour. The published code means to swap both, but since
        # it assigns views of a colour image, it copies, too.
        for target, source in zip(targets.tolist(), sources.tolist(), strict=True):
            order[target] = order[source]
    shuffled = blurred.reshape(-1, channels)[order].reshape(image.shape)
    return _blurred(shuffled, deviation)


def _blurred(image: Units, deviation: float) -> Units:
    blurred: Units = gaussian_filter(image, (deviation, deviation, 0), mode="nearest")
    return blurred


def _motion_blur(image: Units, generator: Generator, radius: float, deviation: float) -> Units:
    return _blurred_along(image, radius, deviation, generator.uniform(-45, 45))


def _blurred_along(image: Units, radius: float, deviation: float, degrees: float) -> Units:
    """Blur an image (height, width, ...) along a line, as ImageMagick's `MotionBlurImage` does.

    The weights are one half of a Gaussian, so that the image seems to move from one side.
    """
    steps = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-(steps**2) / (2 * deviation**2))
    # Weights that do not change a value of 8 bits are left out.
    steps, weights = steps[weights > 1e-4], weights[weights > 1e-4]
    weights /= weights.sum()
    angle = math.radians(degrees)
    downs = np.ceil(steps * math.sin(angle) - 0.5).astype(int)
    rights = np.ceil(steps * math.cos(angle) - 0.5).astype(int)
    height, width = image.shape[:2]
    above, before = max(0, -int(downs.min())), max(0, -int(rights.min()))
    pads = [(above, max(0, int(downs.max()))), (before, max(0, int(rights.max())))]
    padded = np.pad(image, [*pads, *[(0, 0)] * (image.ndim - 2)], mode="edge")
    blurred = np.zeros_like(image)
    for weight, down, right in zip(weights.astype(np.float32), downs, rights, strict=True):
        row, column = above + down, before + right
        blurred += weight * padded[row : row + height, column : column + width]
    return blurred


def _zoom_blur(image: Units, generator: Generator, end: float, step: float) -> Units:
    # In smaller images, factors are larger, so that the border moves by as many pixels as in images
    # of 32 pixels: otherwise the sizes would be rounded to the original ones.
    growth = max(1.0, SMALL_SIDE / min(image.shape[:2]))
    factors = 1 + growth * (np.arange(1, end, step) - 1)
    total = image.copy()
    for factor in factors:
        total += _zoomed(image, float(factor))
    return total / np.float32(len(factors) + 1)


def _zoomed(image: Units, factor: float) -> Units:
    """Enlarge the centre of an image (height, width, ...), and cut it to the image's size."""
    if factor == 1:
        return image
    sides = image.shape[:2]
    inner = [math.ceil(side / factor) for side in sides]
    cut = tuple(
        slice((side - size) // 2, (side - size) // 2 + size)
        for side, size in zip(sides, inner, strict=True)
    )
    enlarged = image[cut]
    for axis, (size, side) in enumerate(zip(inner, sides, strict=True)):
        enlarged = _enlarged_along(enlarged, axis, round(size * factor), side)
    return enlarged


def _enlarged_along(image: Units, axis: int, length: int, side: int) -> Units:
    """Enlarge one axis linearly to `length` pixels, and return the middle `side` of them.

    The first and the last pixel keep their places, as in `scipy.ndimage.zoom`, which is ten
    times slower for small images.
    """
    size, start = image.shape[axis], (length - side) // 2
    places = np.linspace(0, size - 1, length, dtype=np.float32)[start : start + side]
    lower = places.astype(int)
    shape = [1] * image.ndim
    shape[axis] = side
    share = (places - lower).reshape(shape)
    upper = np.minimum(lower + 1, size - 1)
    enlarged: Units = image.take(lower, axis) * (1 - share) + image.take(upper, axis) * share
    return enlarged


def _snow(
    image: Units,
    generator: Generator,
    mean: float,
    deviation: float,
    factor: float,
    threshold: float,
    radius: float,
    blur: float,
    share: float,
) -> Units:
    flakes = generator.normal(mean, deviation, image.shape[:2]).astype(np.float32)
    flakes = _zoomed(flakes, factor)
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1).astype(np.float32)
    flakes = _blurred_along(flakes, radius, blur, generator.uniform(-135, -45))[..., None]
    grey = image if image.shape[2] == 1 else (image @ GREY_WEIGHTS)[..., None]
    whitened = share * image + (1 - share) * np.maximum(image, grey * 1.5 + 0.5)
    snowy: Units = whitened + flakes + np.rot90(flakes, k=2)
    return snowy


def _frost(image: Units, generator: Generator, weight: float, strength: float) -> Units:
    height, width, channels = image.shape
    # The ridges of a rough surface look like the needles of ice crystals.
    surface = _plasma(max(height, width), 1.8, generator)[:height, :width]
    ridges = 1 - np.abs(2 * surface - 1)
    needles = _blurred_along(
        generator.random((height, width), np.float32) ** 4,
        max(2.0, min(height, width) / 16),
        max(1.0, min(height, width) / 32),
        generator.uniform(0, 360),
    )
    frost = np.clip(0.65 * ridges + needles, 0, 1)[..., None]
    tint = np.array(FROST_TINT if channels == 3 else (1.0,), np.float32)
    frosted: Units = np.asarray(weight * image + strength * frost * tint, np.float32)
    return frosted


def _fog(image: Units, generator: Generator, weight: float, decay: float) -> Units:
    height, width, _ = image.shape
    surface = _plasma(max(height, width), decay, generator)[:height, :width, None]
    brightest = image.max()
    foggy: Units = (image + weight * surface) * brightest / (brightest + weight)
    return foggy


def _plasma(least_side: int, decay: float, generator: Generator) -> Units:
    """Draw a rough surface by the diamond-square algorithm (Fournier, Fussell, Carpenter 1982).

    Args:
        least_side: the surface is a square, whose side is the next power of two.
        decay: the roughness is divided by this number whenever the grid becomes twice as fine.
        generator: the source of the noise.

    Returns:
        Values from 0 to 1, (side, side), which continue at the opposite side.
    """
    side = 1 << max(1, (least_side - 1).bit_length())
    surface = np.zeros((side, side))
    step, roughness = side, 100.0

    def displaced(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        noise = generator.uniform(-roughness, roughness, sums.shape)
        mean: NDArray[np.float64] = sums / 4 + roughness * noise
        return mean

    while step >= 2:
        half = step // 2
        corners = surface[::step, ::step]
        sums = corners + np.roll(corners, -1, axis=0)
        surface[half::step, half::step] = displaced(sums + np.roll(sums, -1, axis=1))
        centres = surface[half::step, half::step]
        beside = centres + np.roll(centres, 1, axis=0)
        surface[::step, half::step] = displaced(beside + corners + np.roll(corners, -1, axis=1))
        below = centres + np.roll(centres, 1, axis=1)
        surface[half::step, ::step] = displaced(below + corners + np.roll(corners, -1, axis=0))
        step, roughness = half, roughness / decay
    surface -= surface.min()
    result: Units = (surface / surface.max()).astype(np.float32)
    return result


def _brightness(image: Units, generator: Generator, gain: float) -> Units:
    value = image.max(axis=2, keepdims=True)
    brighter = np.clip(value + gain, 0, 1)
    # A colour of HSV with another value is the same colour times the ratio of both values.
    ratio = brighter / np.maximum(value, 1e-9)
    result: Units = np.where(value > 0, image * ratio, brighter)
    return result


def _contrast(image: Units, generator: Generator, factor: float) -> Units:
    mean = image.mean(axis=(0, 1), keepdims=True)
    result: Units = (image - mean) * factor + mean
    return result


def _elastic_transform(
    image: Units, generator: Generator, amplitude: float, smoothness: float, corner_move: float
) -> Units:
    height, width, channels = image.shape
    centre, reach = np.array([height, width]) // 2, max(1, min(height, width) // 3)
    corners = centre + reach * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = corners + generator.uniform(-corner_move, corner_move, corners.shape)
    # The affine map from moved corners back to the original ones: (row, column, 1) @ matrix.
    matrix = np.linalg.lstsq(np.column_stack([moved, np.ones(3)]), corners, rcond=None)[0]
    rows, columns = np.mgrid[:height, :width]
    moves = [
        amplitude
        * gaussian_filter(
            generator.uniform(-1, 1, (height, width)), smoothness, mode="reflect", truncate=3
        )
        for _ in range(2)
    ]
    places = [rows + moves[0], columns + moves[1]]
    planes = []
    for channel in range(channels):
        plane = affine_transform(
            image[..., channel], matrix[:2].T, matrix[2], order=1, mode="mirror"
        )
        planes.append(map_coordinates(plane, places, order=1, mode="reflect"))
    return np.stack(planes, axis=2)


def _pixelate(image: Units, generator: Generator, share: float) -> Units:
    picture = _picture(image)
    small = [max(1, int(side * share)) for side in picture.size]
    return _units(
        picture.resize((small[0], small[1]), Image.Resampling.BOX).resize(
            picture.size, Image.Resampling.BOX
        )
    )


def _jpeg_compression(image: Units, generator: Generator, quality: float) -> Units:
    file = io.BytesIO()
    _picture(image).save(file, "JPEG", quality=round(quality))
    with Image.open(file) as picture:
        return _units(picture)


def _picture(image: Units) -> Image.Image:
    pixels = np.rint(image * 255).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _units(picture: Image.Image) -> Units:
    pixels = np.asarray(picture, np.float32) / np.float32(255)
    return pixels[..., None] if pixels.ndim == 2 else pixels


CORRUPTIONS: dict[str, Callable[..., Units]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}
"""The corruptions by name; each maps an image, a source of noise and parameters to an image."""
