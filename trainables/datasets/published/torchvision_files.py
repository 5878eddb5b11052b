"""Shared code of the data sets in torchvision's layouts: paths, errors, and the IDX format.

Existing IDX files are read without torchvision, because importing it takes two seconds.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trainables.config import DataConfig
from trainables.datasets.arrays import Decoded, Images, Part
from trainables.datasets.images import resize
from trainables.errors import DataError, Unavailable


def read(loader: Callable[..., Any], config: DataConfig, *, download: bool) -> Decoded:
    """Read the training and the test set with `loader`, a data set class of torchvision.

    The files are in torchvision's own layout under `config.root`.

    Raises:
        DataError: the files are not under `config.root`, or are damaged.
        Unavailable: they could not be downloaded.
    """
    try:
        train, test = (
            loader(config.root, train=train, download=download) for train in (True, False)
        )
    except (
        OSError,
        RuntimeError,
        ValueError,
        AssertionError,
        KeyError,
        TypeError,
        EOFError,
    ) as error:
        if not download:
            raise DataError(missing(config)) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Unavailable(
            f"{config.name} could not be downloaded to '{config.root}' ({reason}). "
            "Check the network, or copy the files into this folder."
        ) from error
    return Decoded(tuple(train.classes), _part(train, config), _part(test, config))


def read_idx(
    loader: Callable[[], Callable[..., Any]],
    config: DataConfig,
    paths: list[Path],
    classes: tuple[str, ...],
    *,
    download: bool,
) -> Decoded:
    """Read the training and the test set from four IDX files.

    Args:
        loader: returns torchvision's class, which is used only to download the files.
        config: the data set.
        paths: the files of training images, training labels, test images and test labels.
        classes: the names of the classes.
        download: whether to download the files; `paths` and `classes` are then not used.

    Raises:
        DataError: the files are missing or damaged.
        Unavailable: they could not be downloaded.
    """
    if download:
        return read(loader(), config, download=True)
    try:
        train, train_labels, test, test_labels = (
            idx(path, axes) for path, axes in zip(paths, (3, 1, 3, 1), strict=True)
        )
    except (OSError, ValueError) as error:
        raise DataError(missing(config)) from error
    return Decoded(
        classes, _arrays(train, train_labels, config), _arrays(test, test_labels, config)
    )


def idx(path: Path, axes: int) -> Images:
    """Read the array of an IDX file of bytes, which must have `axes` axes.

    A file in this format (Yann LeCun, "The MNIST database") has two zero bytes, the type (8), the
    number of axes, the length of each axis in four bytes, and the values.

    Raises:
        ValueError: the file has another format, or is incomplete.
    """
    content = path.read_bytes()
    if content[:4] != bytes([0, 0, 8, axes]):
        raise ValueError(f"{path} is not an IDX file of uint8 values with {axes} axes")
    shape = np.frombuffer(content, ">u4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy()


def missing(config: DataConfig) -> str:
    """Return the message of the error that a data set's files are missing or damaged."""
    return (
        f"the files of {config.name} are missing or damaged in '{config.root}' (--data-root). "
        "Use --data-root DIR with torchvision's layout, or --download to download them."
    )


def existing(config: DataConfig, *names: str) -> list[Path]:
    """Return the paths of these files under the root.

    Raises:
        DataError: one of them is missing.
    """
    paths = [Path(config.root) / name for name in names]
    if not all(path.is_file() for path in paths):
        raise DataError(missing(config))
    return paths


def _part(source: Any, config: DataConfig) -> Part:
    return _arrays(source.data, source.targets, config)


def _arrays(images: Any, labels: Any, config: DataConfig) -> Part:
    return Part(resize(_images(images), config.image_size), np.asarray(labels, dtype=np.int64))


def _images(data: Any) -> Images:
    pixels = np.asarray(data, dtype=np.uint8)
    return pixels[..., None] if pixels.ndim == 3 else pixels
