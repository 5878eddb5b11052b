"""scikit-learn's 1,797 handwritten digits, 8 x 8 pixels in 17 grey levels.

They are a part of UCI's optdigits, and come with the package.
"""

from pathlib import Path

import numpy as np

from trainables.config import DataConfig
from trainables.datasets.arrays import Decoded, Part
from trainables.datasets.images import resize


def files(config: DataConfig) -> list[Path]:
    """Return no files: the data is embedded in scikit-learn."""
    return []


def load(config: DataConfig, *, download: bool) -> Decoded:
    """Read the digits, with grey levels 0 to 16 scaled to 0 to 255."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return Decoded(
        tuple(str(digit) for digit in range(10)),
        Part(resize(images, config.image_size), bunch.target.astype(np.int64)),
    )
