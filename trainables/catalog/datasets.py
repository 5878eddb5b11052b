"""The registry of data sets. The module of a data set is imported only when its data is loaded.

To add a data set, write `load(config, *, download)` and `files(config)` in a module of
`trainables/datasets`, and list it in `DATASETS`. To read a user's folder for another task, write a
module like `trainables/datasets/masks/folder.py`, and list it among the `readers` of `folder`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

DECODING = 3
"""The version of the code that finds and decodes images.

Increment it if images decode to other pixels, or if more files are read. Cached arrays of other
versions are not used. A search's journal records the version; a journal without it has version 1.
Version 1 decoded large JPEGs, transparent images and images of more than 8 bits differently.
Version 2 read fewer formats and folder layouts.
"""


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """The facts about a data set that are known before it is loaded."""

    module: str
    """The module with `load(config, *, download) -> Decoded` and `files(config) -> list[Path]`.

    `files` returns the files that `load` reads.
    """
    from_folder: bool = False
    """True if the images are in a folder that the user names.

    Instead of `files`, the module then has `find(config) -> Layout`, which finds the images. Its
    `load` also takes this `layout`, and `allocate`, which allocates the arrays to decode into.
    """
    tasks: tuple[str, ...] = ("classification",)
    """The tasks for which the data set has targets (`DataConfig.task`); the first is the default.
    """
    readers: Mapping[str, str] = field(default_factory=dict)
    """The modules that replace `module` for other tasks than the first, by the task's name.

    Such a module also has `recognise(root) -> str`, which returns the reason why a folder is meant
    for this task, as a clause; empty if it is not.
    """
    is_own: bool = False
    """True if a command of this project creates the data set, and users do not select it by name.
    """
    has_files: bool = True
    """False if the data is part of a package or drawn, so that it needs no folder."""
    flip: bool = False
    """True if mirroring an image horizontally does not change its class."""

    def reader(self, task: str) -> str:
        """Return the module that loads the data set for a task."""
        return self.readers.get(task, self.module)

    @property
    def decoding(self) -> int | None:
        """The version of decoding (`DECODING`); None if no image files are decoded."""
        return DECODING if self.from_folder else None


DATASETS: dict[str, DatasetEntry] = {
    "digits": DatasetEntry(module="trainables.datasets.published.digits", has_files=False),
    "mnist": DatasetEntry(module="trainables.datasets.published.mnist"),
    "fashion_mnist": DatasetEntry(module="trainables.datasets.published.fashion_mnist", flip=True),
    "cifar10": DatasetEntry(module="trainables.datasets.published.cifar10", flip=True),
    "scenes": DatasetEntry(
        module="trainables.datasets.published.scenes",
        tasks=("segmentation",),
        has_files=False,
        flip=True,
    ),
    "photographs": DatasetEntry(
        module="trainables.datasets.published.photographs",
        tasks=("super_resolution",),
        has_files=False,
        flip=True,
    ),
    "digit_scenes": DatasetEntry(
        module="trainables.datasets.published.digit_scenes",
        tasks=("detection",),
        has_files=False,
        flip=True,
    ),
    "folder": DatasetEntry(
        module="trainables.datasets.folder",
        tasks=("classification", "segmentation", "super_resolution", "detection"),
        readers={
            "segmentation": "trainables.datasets.masks.folder",
            "super_resolution": "trainables.datasets.photographs.folder",
            "detection": "trainables.datasets.boxes.folder",
        },
        flip=True,
        from_folder=True,
    ),
    "joined": DatasetEntry(module="trainables.datasets.joined", flip=True, is_own=True),
}
