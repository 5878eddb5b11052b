"""The modules of the data sets, found by their names in the catalog.

Each is imported when its data is asked for.
"""

import importlib
from pathlib import Path
from types import ModuleType

from trainables.catalog.datasets import DATASETS
from trainables.config import DataConfig
from trainables.datasets.arrays import Allocate, Decoded, in_memory
from trainables.datasets.layout import Layout


def _module(config: DataConfig) -> ModuleType:
    return importlib.import_module(DATASETS[config.name].module)


def find(config: DataConfig) -> Layout | None:
    """Find the images of a folder of the user's; None for another data set.

    Raises:
        DataError: there are none, or it cannot be told what they are.
    """
    return _module(config).find(config) if DATASETS[config.name].from_folder else None


def files(config: DataConfig) -> list[Path]:
    """Return the files that `decode` reads; none when the data comes with a package.

    Of a folder of the user's `find` tells them.
    """
    paths: list[Path] = _module(config).files(config)
    return paths


def decode(
    config: DataConfig,
    *,
    layout: Layout | None = None,
    download: bool = False,
    allocate: Allocate = in_memory,
) -> Decoded:
    """Decode every image of the data set, into what `allocate` gives where the loader can.

    Args:
        config: the data set.
        layout: what `find` found of a folder of the user's, where that is known already.
        download: whether files that are not there are fetched.
        allocate: the arrays to decode such a folder into.

    Raises:
        DataError: images or labels that cannot be used.
        Unavailable: the files are not there, or cannot be downloaded.
    """
    layout = layout or find(config)
    more = {} if layout is None else {"layout": layout, "allocate": allocate}
    decoded: Decoded = _module(config).load(config, download=download, **more)
    return decoded
