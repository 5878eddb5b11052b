"""Eighteen photographs that are part of scikit-image and scikit-learn, for super-resolution.

There are people, animals, buildings, textures, and pictures by a microscope and a telescope; eight
are grey. The largest are halved, so that a search on them takes a few minutes, and each is cut into
quarters, so that there are more images to validate on. The quarters of a photograph are in the same
set. They are alike, so that confidence intervals are somewhat too narrow here.
"""

from pathlib import Path

import numpy as np

from trainables.config import DataConfig
from trainables.datasets.arrays import Decoded, Images, Part, Ragged
from trainables.tasks.super_resolution.reducing import cut_to_multiple, reduce

OF_SKIMAGE = (
    *("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "immunohistochemistry"),
    *("retina", "camera", "brick", "grass", "gravel", "coins", "moon", "clock", "cell"),
)
"""The functions of `skimage.data` for single images whose files are part of the package."""
OF_SKLEARN = ("china.jpg", "flower.jpg")
MOST_SIDE = 700
"""Photographs with a longer side, in pixels, are halved until it is at most this long."""
QUARTERS = 4


def files(config: DataConfig) -> list[Path]:
    """Return an empty list, because the photographs are part of packages."""
    return []


def load(config: DataConfig, *, download: bool) -> Decoded:
    """Read the photographs, and reduce their quarters by `config.scale`."""
    quarters = [quarter for image in _photographs() for quarter in _quarters(image)]
    large = [cut_to_multiple(quarter, config.scale) for quarter in quarters]
    small = [reduce(quarter, config.scale) for quarter in large]
    groups = np.arange(len(large)) // QUARTERS
    return Decoded((), Part(Ragged.of(small), Ragged.of(large)), groups=groups)


def _photographs() -> list[Images]:
    """Return the photographs in colour, in the order of their names."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    images = [
        *(getattr(data, name)() for name in OF_SKIMAGE),
        data.stereo_motorcycle()[0],
        *map(load_sample_image, OF_SKLEARN),
    ]
    return [_halved(_in_colour(np.asarray(image))) for image in images]


def _quarters(image: Images) -> list[Images]:
    height, width = image.shape[0] // 2, image.shape[1] // 2
    return [
        image[down : down + height, across : across + width]
        for down in (0, height)
        for across in (0, width)
    ]


def _in_colour(image: Images) -> Images:
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image[..., :3]


def _halved(image: Images) -> Images:
    while max(image.shape) > MOST_SIDE:
        image = reduce(cut_to_multiple(image, 2), 2)
    return np.ascontiguousarray(image)
