"""MNIST: 60,000 and 10,000 handwritten digits, 28 x 28 grey, through torchvision's loader and layout (`ROOT/MNIST/raw`)."""

from pathlib import Path

from trainables.config import DataConfig
from trainables.datasets.arrays import Decoded
from trainables.datasets.torchvision_files import existing, read

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def files(config: DataConfig) -> list[Path]:
    """The four IDX files, unpacked."""
    return existing(config, *(f"MNIST/raw/{name}" for name in NAMES))


def load(config: DataConfig, *, download: bool) -> Decoded:
    """Both parts of MNIST."""
    from torchvision.datasets import MNIST

    return read(MNIST, config, download=download)
