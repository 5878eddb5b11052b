"""Fashion-MNIST: clothes in MNIST's format, through torchvision's loader and layout (`ROOT/FashionMNIST/raw`)."""

from pathlib import Path

from trainables.config import DataConfig
from trainables.datasets.arrays import Decoded
from trainables.datasets.mnist import NAMES
from trainables.datasets.torchvision_files import existing, read


def files(config: DataConfig) -> list[Path]:
    """The four IDX files, unpacked."""
    return existing(config, *(f"FashionMNIST/raw/{name}" for name in NAMES))


def load(config: DataConfig, *, download: bool) -> Decoded:
    """Both parts of Fashion-MNIST."""
    from torchvision.datasets import FashionMNIST

    return read(FashionMNIST, config, download=download)
