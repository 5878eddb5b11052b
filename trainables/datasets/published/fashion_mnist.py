"""Fashion-MNIST: clothes in the format of MNIST.

The files are in torchvision's layout (`ROOT/FashionMNIST/raw`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainables.config import DataConfig
from trainables.datasets.arrays import Decoded
from trainables.datasets.published.mnist import NAMES
from trainables.datasets.published.torchvision_files import existing, read_idx

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""The names of the classes in torchvision."""


def files(config: DataConfig) -> list[Path]:
    """Return the paths of the four unpacked IDX files."""
    return existing(config, *(f"FashionMNIST/raw/{name}" for name in NAMES))


def load(config: DataConfig, *, download: bool) -> Decoded:
    """Read the training and the test set."""
    return read_idx(_loader, config, [] if download else files(config), CLASSES, download=download)


def _loader() -> Callable[..., Any]:
    from torchvision.datasets import FashionMNIST

    return FashionMNIST  # type: ignore[no-any-return]
