"""The base class of images that stay on the disk, and the rule for which images do.

Selecting rows copies nothing. A pickle has the paths of files instead of the images.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from trainables.memory import free_memory

MEMORY_SHARE = 0.25
"""Images stay on the disk if they need more than this share of the free memory.

Otherwise there are copies of them: those that are drawn for training, and those in Ray's memory.
"""


def is_large(size: int) -> bool:
    """True if images of this size, in bytes, should stay on the disk."""
    free = free_memory()
    return free is not None and size > MEMORY_SHARE * free


@dataclass(frozen=True, eq=False)
class ImagesOnDisk:
    """Images of one size, uint8 (images, height, width, channels), that are read when needed.

    They are rows of a table, such as an array in a file, or a list of image files.
    """

    rows: NDArray[np.int64]
    """The rows of the table that these images are, in this order."""
    fingerprint: str
    """Identifies the content of the whole table."""

    @property
    def folder(self) -> Path | None:
        """The entry of the cache in which results about the images are stored; None for none."""
        raise NotImplementedError

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width, channels)."""
        raise NotImplementedError

    def take(self, numbers: Any) -> Self:
        """Return these images, without copying them."""
        return dataclasses.replace(self, rows=self.rows[numbers])

    def expect(self, rows: NDArray[np.int64]) -> None:
        """Begin to read these rows of the table, (rows,), in the background."""
        raise NotImplementedError

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return these rows of the table, (rows,), as an array."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, numbers: Any) -> NDArray[np.uint8]:
        """Return a copy of one image, or of several."""
        selected = self.rows[numbers]
        rows = np.atleast_1d(selected)
        self.expect(rows)
        images = self.read(rows)
        return images if np.ndim(selected) else images[0]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[number] for number in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return a copy of all images.

        Raises:
            ValueError: a result without a copy was asked for.
        """
        if copy is False:
            raise ValueError("images on the disk cannot become an array without a copy")
        return self[:] if dtype is None else self[:].astype(dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """(images, height, width, channels)."""
        return len(self), *self.image_shape
