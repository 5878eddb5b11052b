"""MNIST: handwritten digits, 60,000 training and 10,000 test images of 28 x 28 pixels, grey.

The files are in torchvision's layout (`ROOT/MNIST/raw`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainables.config import DataConfig
from trainables.datasets.arrays import Decoded
from trainables.datasets.published.torchvision_files import existing, read_idx

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLASSES = tuple(f"{digit} - {word}" for digit, word in enumerate(WORDS))
"""The names of the classes in torchvision."""


def files(config: DataConfig) -> list[Path]:
    """Return the paths of the four unpacked IDX files."""
    return existing(config, *(f"MNIST/raw/{name}" for name in NAMES))


def load(config: DataConfig, *, download: bool) -> Decoded:
    """Read the training and the test set."""
    return read_idx(_loader, config, [] if download else files(config), CLASSES, download=download)


def _loader() -> Callable[..., Any]:
    from torchvision.datasets import MNIST

    return MNIST  # type: ignore[no-any-return]
