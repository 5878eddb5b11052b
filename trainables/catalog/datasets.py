"""The data sets by name. A loader is imported when its data is loaded.

To add one: write `load(config, *, download)` in a file here, returning `Decoded`, and name it in
`DATASETS`.
"""

from dataclasses import dataclass

DECODING = 2
"""Raised when files of images decode to other pixels, so that arrays decoded before are not taken.
In a search's journal, but in those of 1, which read large JPEGs, transparent images and those of
more than 8 bits in another way.
"""


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """What is known of a data set before it is loaded."""

    module: str
    """Holds `load(config, *, download) -> Decoded` and `files(config) -> list[Path]`, the files it
    reads.
    """
    from_folder: bool = False
    """The images are whatever a folder of the user's holds: the module has `left_out(config)` too,
    lines on what is not read, and `load` takes `allocate`, which gives the arrays to decode into.
    """
    flip: bool = False
    """Whether an image mirrored left to right still means the same."""

    @property
    def decoding(self) -> int | None:
        """How its files become pixels, by `DECODING`; None where they are pixels already."""
        return DECODING if self.from_folder else None


DATASETS: dict[str, DatasetEntry] = {
    "digits": DatasetEntry(module="trainables.datasets.digits"),
    "mnist": DatasetEntry(module="trainables.datasets.mnist"),
    "fashion_mnist": DatasetEntry(module="trainables.datasets.fashion_mnist", flip=True),
    "cifar10": DatasetEntry(module="trainables.datasets.cifar10", flip=True),
    "folder": DatasetEntry(module="trainables.datasets.folder", flip=True, from_folder=True),
}
