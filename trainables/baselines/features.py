"""Hand-crafted features of images, computed with scikit-image.

They describe edges (Canny, Sobel), gradients (HOG) and texture (local binary patterns). Colour
images are converted to grey first (`skimage.color.rgb2gray`). Each kind divides the image into a
grid of regions, so that the number of features depends only on the image's size:

    edges   4 x 4 regions of 6 numbers: mean and deviation of the magnitude of Sobel's gradient;
            the share of Canny's edge pixels; the mean magnitude of the vertical and of the
            horizontal gradient; the mean magnitude with all but Canny's edge pixels set to 0
    hog     about 5 x 5 cells of at least 2 x 2 pixels (8 x 8 cells if the shorter side of the
            image has 64 pixels or more), with 9 directions, normalised in blocks of 2 x 2 cells
            (Dalal and Triggs 2005)
    lbp     4 x 4 regions of 59 shares: one for each of the 58 uniform patterns of the 8
            neighbours, and one for all other patterns (Ojala et al. 2002; Ahonen et al. 2006)

This module imports nothing from this project, because a copy of it is stored with every promoted
baseline (`trainables.export.export`).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2gray
from skimage.feature import canny, hog, local_binary_pattern
from skimage.filters import sobel_h, sobel_v

Images = NDArray[np.uint8]
"""uint8 (count, height, width, channels), or a single image without the axis `count`."""
VERSION = 1
"""Increment this when the features change, so that cached ones are no longer used."""
GRID = 4
CELLS, FINE_CELLS, FINE_SIDE = 5, 8, 64
PATTERNS = 59

Grey = NDArray[np.float64]
"""Brightness, (height, width), from 0 to 1."""
Values = NDArray[np.float32]


def compute_features(
    images: Images, kind: str, on_image: Callable[[], None] = lambda: None
) -> Values:
    """Compute the features of one kind, float32 (images, length); (0, 0) without images.

    Args:
        images: uint8 (count, height, width, channels).
        kind: a name in `FEATURES`.
        on_image: called after each image.
    """
    features = np.empty((len(images), 0), dtype=np.float32)
    for row, image in enumerate(images):
        values = FEATURES[kind](grey(image))
        if row == 0:
            features = np.empty((len(images), len(values)), dtype=np.float32)
        features[row] = values
        on_image()
    return features


def kinds_of(option: str) -> tuple[str, ...]:
    """List the kinds of features for a value of the config's option `features`.

    The value `all` stands for all kinds.
    """
    return tuple(FEATURES) if option == "all" else (option,)


def length(kind: str, height: int, width: int) -> int:
    """Return the number of features of this kind for an image of this size."""
    return len(FEATURES[kind](np.zeros((height, width))))


def grey(image: Images) -> Grey:
    """Convert an image, uint8 (height, width, 1 or 3), to brightness."""
    return np.asarray(
        rgb2gray(image) if image.shape[-1] == 3 else image[..., 0] / 255, dtype=np.float64
    )


def edges(image: Grey) -> NDArray[np.float64]:
    """Compute six statistics of the gradient and the edge pixels of each region, (6 * regions,)."""
    down, right, outline = sobel_h(image), sobel_v(image), canny(image).astype(float)
    steep = np.hypot(down, right)
    regions = regions_of(image)
    mean, square = averages(steep, regions), averages(steep**2, regions)
    further_means = (
        averages(values, regions)
        for values in (outline, np.abs(down), np.abs(right), steep * outline)
    )
    return np.concatenate([mean, np.sqrt(np.maximum(square - mean**2, 0)), *further_means])


def gradients(image: Grey) -> NDArray[np.float64]:
    """Compute the histograms of oriented gradients (HOG), as one vector, (length,)."""
    cells = FINE_CELLS if min(image.shape) >= FINE_SIDE else CELLS
    each = tuple(max(2, side // cells) for side in image.shape)
    return np.asarray(
        hog(
            image, orientations=9, pixels_per_cell=each, cells_per_block=(2, 2), block_norm="L2-Hys"
        )
    )


def texture(image: Grey) -> NDArray[np.float64]:
    """Compute the share of each local binary pattern in each region, (regions * patterns,)."""
    patterns = local_binary_pattern(
        np.round(255 * image).astype(np.uint8), P=8, R=1, method="nri_uniform"
    ).astype(int)
    regions = regions_of(image)
    counts = np.bincount(
        (PATTERNS * regions + patterns).ravel(), minlength=GRID**2 * PATTERNS
    ).reshape(GRID**2, PATTERNS)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True)).ravel()


def regions_of(image: Grey) -> NDArray[np.intp]:
    """Return the index of each pixel's region, (height, width).

    The sides of two regions differ by at most one pixel.
    """
    rows, columns = (np.arange(side) * GRID // side for side in image.shape)
    return np.asarray(rows[:, None] * GRID + columns)


def averages(values: NDArray[np.float64], regions: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the mean value of each region, (regions,)."""
    return np.bincount(regions.ravel(), weights=values.ravel(), minlength=GRID**2) / np.bincount(
        regions.ravel(), minlength=GRID**2
    )


FEATURES: dict[str, Callable[[Grey], NDArray[np.float64]]] = {
    "hog": gradients,
    "lbp": texture,
    "edges": edges,
}
"""The functions that compute the features of one image, by kind."""
