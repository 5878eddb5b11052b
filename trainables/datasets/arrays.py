"""Images and labels as arrays: what a loader gives (`Decoded`) and what a trial trains on (`Dataset`)."""

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Images, uint8 (count, height, width, channels), and their class numbers, int64 (count,)."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the SHA-256 over the images."""
        digest = hashlib.sha256(str(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        return digest.hexdigest()[:16]

    def take(self, rows: NDArray[np.intp]) -> "Part":
        """A copy that holds only these rows."""
        return Part(np.ascontiguousarray(self.images[rows]), self.labels[rows])


@dataclass(frozen=True)
class Decoded:
    """A whole data set as its files give it; `test` is None where the files have no test part of their own."""

    classes: tuple[str, ...]
    train: Part
    test: Part | None = None
    skipped: int = 0
    """Unreadable images that were left out."""

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the SHA-256 over pixels, labels and class names."""
        digest = hashlib.sha256("\0".join(self.classes).encode())
        for part in (self.train, self.test):
            if part is not None:
                digest.update(str(part.images.shape).encode())
                digest.update(np.ascontiguousarray(part.images).data)
                digest.update(np.ascontiguousarray(part.labels).data)
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Dataset:
    """A data set split for training. `test` is None in the copy that trials get: they cannot look."""

    name: str
    classes: tuple[str, ...]
    train: Part
    val: Part
    test: Part | None
    fingerprint: str
    skipped: int = 0
    """Unreadable images that were left out."""

    @property
    def image(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        _, height, width, channels = self.train.images.shape
        return channels, height, width

    @property
    def sealed(self) -> "Dataset":
        """A copy without the test part."""
        return dataclasses.replace(self, test=None)

    @cached_property
    def channel_statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation of each channel over the training images, in the 0..1 scale of pixels."""
        levels = np.arange(256) / 255
        counts = np.stack([np.bincount(self.train.images[..., channel].ravel(), minlength=256) for channel in range(self.image[0])])
        shares = counts / counts.sum(axis=1, keepdims=True)
        mean = shares @ levels
        deviation = np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0))
        return mean.astype(np.float32), np.maximum(deviation, 1e-3).astype(np.float32)
