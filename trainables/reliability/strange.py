"""Images that are unlike those of the training, made from validation images."""

from collections.abc import Callable

import numpy as np

from trainables.datasets.arrays import Images

Change = Callable[[Images, np.random.Generator], Images]
"""Changes images, uint8 (count, height, width, channels), to ones of the same shape."""
GRID = 4
"""Images are scrambled in GRID x GRID tiles."""


def _noise(images: Images, generator: np.random.Generator) -> Images:
    """Replace images by independent uniform pixels."""
    return generator.integers(0, 256, images.shape, dtype=np.uint8)


def _noisy(images: Images, generator: np.random.Generator) -> Images:
    """Add normal noise with a standard deviation of 38 % of the range (severity 5 of ImageNet-C).

    See Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common
    Corruptions and Perturbations".
    """
    noisy = images + generator.normal(0, 0.38 * 255, images.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def _blurred(images: Images, generator: np.random.Generator) -> Images:
    """Average over squares of an eighth of the image."""
    _, height, width, _ = images.shape
    rows = np.arange(height) * 8 // height
    columns = np.arange(width) * 8 // width
    blurred = np.empty_like(images)
    for row in range(8):
        for column in range(8):
            square = np.ix_(np.arange(len(images)), rows == row, columns == column)
            if images[square].size:
                blurred[square] = images[square].mean(axis=(1, 2), keepdims=True).astype(np.uint8)
    return blurred


def _scrambled(images: Images, generator: np.random.Generator) -> Images:
    """Shuffle the tiles of each image."""
    _, height, width, _ = images.shape
    high, wide = height // GRID, width // GRID
    if not high or not wide:
        return images[:, ::-1]
    scrambled = images.copy()
    places = [(row * high, column * wide) for row in range(GRID) for column in range(GRID)]
    for number, image in enumerate(images):
        for target, source in zip(places, generator.permutation(places).tolist(), strict=True):
            scrambled[number, target[0] : target[0] + high, target[1] : target[1] + wide] = image[
                source[0] : source[0] + high, source[1] : source[1] + wide
            ]
    return scrambled


def _inverted(images: Images, generator: np.random.Generator) -> Images:
    return 255 - images


STRANGE: dict[str, Change] = {
    "uniform noise": _noise,
    "strong noise": _noisy,
    "strong blur": _blurred,
    "scrambled tiles": _scrambled,
    "inverted colours": _inverted,
}
"""Kinds of strange images, by the title that is shown to users."""
