"""Images without labels: those in a folder and its sub-folders, at any depth."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from trainables.datasets.arrays import SIXTEEN_BITS, Dataset, Part
from trainables.datasets.images import decode
from trainables.datasets.walk import walk
from trainables.errors import ConfigError, DataError, counted, printable
from trainables.processors import processors

MOST = 20_000
"""The maximum number of images that are used, because the graph of neighbours compares all pairs.

Of more images, `MOST` are used, evenly spread over the sorted paths.
"""
BATCH = 500
"""The number of images that are decoded at once."""


def image_paths(folder: Path) -> list[Path]:
    """Return the paths of the images in a folder, sorted; at most `MOST`.

    Raises:
        ConfigError: the folder is missing or unreadable, or has no images.
    """
    try:
        paths = walk(folder, folder.resolve()).all_images
    except OSError as error:
        raise ConfigError(
            f"the folder of images without labels, '{folder}', cannot be read ({error.strerror}). "
            "Use --unlabelled FOLDER."
        ) from error
    if not paths:
        raise ConfigError(
            f"'{folder}' contains no images (--unlabelled). Use a folder of images without labels."
        )
    places = np.linspace(0, len(paths) - 1, min(MOST, len(paths))).round().astype(int)
    return [paths[place] for place in places]


def describe(folder: Path) -> str:
    """Describe the images without labels in a line for the start of a search.

    Raises:
        ConfigError: as for `image_paths`.
    """
    paths = image_paths(folder)
    limit = f", {MOST:,} of them, the most that can be" if len(paths) == MOST else ""
    return f"note: {counted(len(paths), 'image')} without labels in '{folder}' are used too{limit}."


def digest(folder: Path) -> str:
    """Return 16 hex digits that identify the images, by their names and sizes in bytes.

    Raises:
        ConfigError: as for `image_paths`.
    """
    hasher = hashlib.sha256()
    for path in image_paths(folder):
        size = path.stat().st_size if path.exists() else 0
        hasher.update(os.fsencode(path.relative_to(folder)) + f"\0{size}\0".encode())
    return hasher.hexdigest()[:16]


def read_batches(
    folder: Path, dataset: Dataset, beat: Callable[[], None] = lambda: None
) -> Iterator[Part]:
    """Yield the images of a folder in batches, in the size and the colours of a data set.

    The targets are -1.

    Raises:
        ConfigError: as for `image_paths`, or an image cannot be read.
    """
    paths = image_paths(folder)
    _, height, width, channels = dataset.train.shape
    mode = "L" if channels == 1 else "RGB"

    def decode_one(path: Path) -> np.ndarray:
        beat()
        try:
            return decode(path, (width, height), mode, dataset.value_range or SIXTEEN_BITS)
        except DataError as error:
            raise ConfigError(
                f"the image without a label '{printable(str(path))}' cannot be read: {error}. "
                "Remove it."
            ) from error

    with ThreadPoolExecutor(processors()) as pool:
        for first in range(0, len(paths), BATCH):
            images = np.stack(list(pool.map(decode_one, paths[first : first + BATCH])))
            yield Part(images, np.full(len(images), -1))
