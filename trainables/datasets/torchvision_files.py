"""What the data sets with torchvision's loaders share: where their files lie, and one clear error when they do not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trainables.config import DataConfig
from trainables.datasets.arrays import Decoded, Images, Part
from trainables.datasets.images import resize
from trainables.errors import DataError, Unavailable


def read(loader: Callable[..., Any], config: DataConfig, *, download: bool) -> Decoded:
    """Read both parts with a torchvision data set class, whose layout under `config.root` is torchvision's own.

    Raises:
        DataError: the files are not under `config.root`, or are damaged.
        Unavailable: they were to be downloaded and could not be.
    """
    try:
        train, test = (loader(config.root, train=train, download=download) for train in (True, False))
    except (OSError, RuntimeError, ValueError, AssertionError, KeyError, TypeError, EOFError) as error:
        if not download:
            raise DataError(missing(config)) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Unavailable(f"{config.name} could not be downloaded to '{config.root}' ({reason}). Check the network, or put the files there.") from error
    return Decoded(tuple(train.classes), _part(train, config), _part(test, config))


def missing(config: DataConfig) -> str:
    """The error's text when a data set's files are absent or damaged."""
    return (
        f"{config.name} not found (or damaged) under '{config.root}' (--data-root). Use --data-root DIR with torchvision's layout, or --download to fetch it."
    )


def existing(config: DataConfig, *names: str) -> list[Path]:
    """The files of these names under the root.

    Raises:
        DataError: one of them is absent.
    """
    paths = [Path(config.root) / name for name in names]
    if not all(path.is_file() for path in paths):
        raise DataError(missing(config))
    return paths


def _part(source: Any, config: DataConfig) -> Part:
    return Part(resize(_images(source.data), config.image_size), np.asarray(source.targets, dtype=np.int64))


def _images(data: Any) -> Images:
    pixels = np.asarray(data, dtype=np.uint8)
    return pixels[..., None] if pixels.ndim == 3 else pixels
