"""Access to the data sets by their names in the catalog.

The module of a data set is imported when it is used.
"""

import importlib
from pathlib import Path
from types import ModuleType

from trainables.catalog.datasets import DATASETS
from trainables.config import DataConfig
from trainables.datasets.arrays import Allocate, Decoded, in_memory
from trainables.datasets.layout import Layout


def _module(config: DataConfig) -> ModuleType:
    return importlib.import_module(DATASETS[config.name].reader(config.task))


def recognise_task(name: str, root: str) -> str:
    """Return the task of the first reader that recognises a user's folder, else the default task.

    `name` is the data set's name.
    """
    entry = DATASETS[name]
    for task, module in entry.readers.items():
        if root and importlib.import_module(module).recognise(Path(root)):
            return task
    return entry.tasks[0]


def find(config: DataConfig) -> Layout | None:
    """Find the images if the data set is a user's folder; None for any other data set.

    Raises:
        DataError: there are no images, or the folder is ambiguous.
    """
    return _module(config).find(config) if DATASETS[config.name].from_folder else None


def files(config: DataConfig) -> list[Path]:
    """Return the paths of the files that `decode` reads; empty if decoding needs no cache.

    For a user's folder, use `find` instead.
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
    """Decode every image of the data set.

    Args:
        config: the data set.
        layout: for a user's folder, the result of `find`, if it is known already.
        download: whether to download missing files.
        allocate: for a user's folder, allocates the arrays into which images are decoded.

    Raises:
        DataError: images or labels cannot be used.
        Unavailable: the files are missing, or cannot be downloaded.
    """
    layout = layout or find(config)
    more = {} if layout is None else {"layout": layout, "allocate": allocate}
    decoded: Decoded = _module(config).load(config, download=download, **more)
    return decoded
