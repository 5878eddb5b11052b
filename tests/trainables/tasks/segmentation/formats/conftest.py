"""Images with masks as people have them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture
def pair() -> Callable[..., Pair]:
    """An image of noise, and the mask of a rectangle in it, by number."""

    def make(number: int, classes: int = 2, height: int = 14, width: int = 18) -> Pair:
        generator = np.random.default_rng(number)
        image = generator.integers(0, 200, (height, width, 3), dtype=np.uint8)
        mask = np.zeros((height, width), np.uint8)
        mask[2 + number % 5 : 9, 3 : 8 + number % 7] = 1 + number % (classes - 1)
        return image, mask

    return make


@pytest.fixture
def write() -> Callable[[Path, Any], None]:
    """Write an array, or a Pillow image, to a file; its folders are made."""

    def make(path: Path, pixels: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        image.save(path)

    return make
