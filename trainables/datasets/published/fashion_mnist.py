"""Fashion-MNIST: clothes in MNIST's format, in torchvision's layout (`ROOT/FashionMNIST/raw`)."""

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
"""The names that torchvision gives them."""


def files(config: DataConfig) -> list[Path]:
    """Return the four IDX files, unpacked."""
    return existing(config, *(f"FashionMNIST/raw/{name}" for name in NAMES))


def load(config: DataConfig, *, download: bool) -> Decoded:
    """Read both parts of Fashion-MNIST."""
    return read_idx(_loader, config, [] if download else files(config), CLASSES, download=download)


def _loader() -> Callable[..., Any]:
    from torchvision.datasets import FashionMNIST

    return FashionMNIST  # type: ignore[no-any-return]
