"""CIFAR-10: 50,000 training and 10,000 test images of 32 x 32 pixels, in colour.

They are read by torchvision's loader, in its layout (`ROOT/cifar-10-batches-py`). The files are
pickles; torchvision opens them only if their MD5 sums are the published ones.
"""

from pathlib import Path

from trainables.config import DataConfig
from trainables.datasets.arrays import Decoded
from trainables.datasets.published.torchvision_files import existing, read

NAMES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")


def files(config: DataConfig) -> list[Path]:
    """Return the paths of the six batches and of the class names."""
    return existing(config, *(f"cifar-10-batches-py/{name}" for name in NAMES))


def load(config: DataConfig, *, download: bool) -> Decoded:
    """Read the training and the test set."""
    from torchvision.datasets import CIFAR10

    return read(CIFAR10, config, download=download)
