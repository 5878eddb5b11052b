"""The modules of the data sets, found by their names in the catalog.

Each is imported when its data is asked for.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

from trainables.catalog.datasets import DATASETS
from trainables.config import DataConfig
from trainables.datasets.arrays import Allocate, Decoded


def decode(
    config: DataConfig, *, download: bool = False, allocate: Allocate | None = None
) -> Decoded:
    """Decode every image of the data set, into what `allocate` gives where the loader can.

    Raises:
        DataError: images or labels that cannot be used.
        Unavailable: the files are not there, or cannot be downloaded.
    """
    entry = DATASETS[config.name]
    loader = cast("Callable[..., Decoded]", importlib.import_module(entry.module).load)
    return loader(
        config,
        download=download,
        **({"allocate": allocate} if entry.from_folder and allocate else {}),
    )


def left_out(config: DataConfig) -> tuple[str, ...]:
    """Return lines on what lies beside the images and is not read."""
    entry = DATASETS[config.name]
    return (
        tuple(importlib.import_module(entry.module).left_out(config)) if entry.from_folder else ()
    )


def files(config: DataConfig) -> list[Path]:
    """Return the files that `decode` reads; none when the data comes with a package."""
    lister = cast(
        "Callable[[DataConfig], list[Path]]",
        importlib.import_module(DATASETS[config.name].module).files,
    )
    return lister(config)
