"""scikit-learn's 1,797 handwritten digits, 8 x 8 pixels in 17 grey levels.

They are the test set of UCI's optdigits, and are part of the package.
"""

from pathlib import Path

import numpy as np

from trainables.config import DataConfig
from trainables.datasets.arrays import Decoded, Part
from trainables.datasets.images import resize


def files(config: DataConfig) -> list[Path]:
    """Return an empty list, because the data is part of scikit-learn."""
    return []


def load(config: DataConfig, *, download: bool) -> Decoded:
    """Read the digits, and scale their 17 grey levels to the range from 0 to 255."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return Decoded(
        tuple(str(digit) for digit in range(10)),
        Part(resize(images, config.image_size), bunch.target.astype(np.int64)),
    )
