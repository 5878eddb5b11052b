"""The data of an earlier search, joined with images that were recorded later (`search.improve`).

The parts are stored as they were split and decoded, so that the validation and the test set equal
those of the earlier search in every pixel.
"""

from pathlib import Path

from trainables.config import DataConfig
from trainables.datasets.arrays import Decoded
from trainables.datasets.cache import read_entry, write_entry
from trainables.errors import DataError


def files(config: DataConfig) -> list[Path]:
    """Return an empty list, because the images are stored decoded, and need no cache."""
    return []


def load(config: DataConfig, *, download: bool) -> Decoded:
    """Read the parts; their images are mapped into memory.

    Raises:
        DataError: the files are missing or damaged.
    """
    try:
        return read_entry(Path(config.root))
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the data set that search.improve wrote to '{config.root}' cannot be read ({error}). "
            "Restore the folder from a backup, or pass its new path with --data-root."
        ) from error


def write(folder: Path, decoded: Decoded) -> None:
    """Write the parts to a new folder, which only its owner can access.

    Raises:
        FileExistsError: the folder exists.
    """
    folder.mkdir(parents=True, mode=0o700)
    write_entry(folder, decoded)
