"""The data sets by name. A loader is imported when its data is loaded.

To add one: write `load(config, *, download)` and `files(config)` in a file of
`trainables/datasets`, and name it in `DATASETS`.
"""

from dataclasses import dataclass

DECODING = 3
"""The version of decoding. Raise it if a folder's images decode to other pixels, or more are read.

Arrays that were decoded by another version are not used. A search's journal names the version; if
it does not, it is version 1, which decoded large JPEGs, transparent images and those of more than 8
bits differently. Version 2 read fewer formats and layouts.
"""


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """The facts about a data set that are known before it is loaded."""

    module: str
    """The module with `load(config, *, download) -> Decoded` and `files(config) -> list[Path]`.

    `files` returns the files that `load` reads.
    """
    from_folder: bool = False
    """True if the images come from a folder of the user's.

    The module then has `find(config) -> Layout`, which finds the images, instead of `files`, and
    `load` also takes that `layout`, and `allocate`, which returns the arrays to decode into.
    """
    tasks: tuple[str, ...] = ("classification",)
    """The tasks for which its loader gives targets (`DataConfig.task`); the first is the usual one.
    """
    is_own: bool = False
    """True if a command of this project writes it: users do not name it."""
    flip: bool = False
    """True if mirroring an image left to right does not change its class."""

    @property
    def decoding(self) -> int | None:
        """The version of decoding (`DECODING`); None where the files hold pixels already."""
        return DECODING if self.from_folder else None


DATASETS: dict[str, DatasetEntry] = {
    "digits": DatasetEntry(module="trainables.datasets.published.digits"),
    "mnist": DatasetEntry(module="trainables.datasets.published.mnist"),
    "fashion_mnist": DatasetEntry(module="trainables.datasets.published.fashion_mnist", flip=True),
    "cifar10": DatasetEntry(module="trainables.datasets.published.cifar10", flip=True),
    "folder": DatasetEntry(module="trainables.datasets.folder", flip=True, from_folder=True),
    "joined": DatasetEntry(module="trainables.datasets.joined", flip=True, is_own=True),
}
