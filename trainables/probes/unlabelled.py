"""Images without labels: those in a folder and its sub-folders, at any depth.

Copies of images of the data set are left out: the validation set must not be learnt from, even
without its labels.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from trainables.catalog.datasets import DATASETS
from trainables.config import DataConfig
from trainables.datasets.arrays import SIXTEEN_BITS, Dataset, Images, Part
from trainables.datasets.images import decode, header
from trainables.datasets.walk import walk
from trainables.errors import ConfigError, DataError, counted, printable
from trainables.machine import processors
from trainables.progress import step

MOST = 20_000
"""The maximum number of images that are used, because the graph of neighbours compares all pairs.

If there are more, `MOST` of them are used, evenly spread over the sorted paths.
"""
BATCH = 500
"""The number of images that are decoded at once."""


class UnlabelledFolder:
    """The images in a folder, without those that the data set has too.

    The folders are listed once; all properties raise the errors of `paths`.
    """

    def __init__(self, folder: Path, data: DataConfig | None = None) -> None:
        """Take the images of `folder`, except copies of those of `data`, if that is a folder."""
        self.folder, self.labelled = folder, None
        if data is not None and data.root and DATASETS[data.name].from_folder:
            self.labelled = Path(data.root)

    @cached_property
    def paths(self) -> list[Path]:
        """The paths of the images that are used, sorted; at most `MOST`.

        Raises:
            ConfigError: a folder is missing or unreadable, or has no images, or all images of this
                one are in the data set too.
        """
        places = np.linspace(0, len(self._unique) - 1, min(MOST, len(self._unique)))
        return [self._unique[place] for place in places.round().astype(int)]

    def check(self) -> str:
        """Check the headers of the images, and describe them in a line for the start of a search.

        Raises:
            ConfigError: as for `paths`, or images cannot be read.
        """
        total, paths, copies = len(self._unique), self.paths, len(self._every) - len(self._unique)
        with step("reading the headers of images"), ThreadPoolExecutor(processors()) as pool:
            headers = zip(paths, pool.map(header, paths), strict=True)
            unreadable = [path for path, each in headers if each is None]
        if unreadable:
            raise ConfigError(
                f"{counted(len(unreadable), 'image')} without a label cannot be read (first: "
                f"'{printable(str(unreadable[0]))}'). Remove "
                f"{'it' if len(unreadable) == 1 else 'them'} from '{self.folder}'."
            )
        left_out = f"; {counted(copies, 'other')} are copies of labelled ones" if copies else ""
        if total > len(paths):
            return (
                f"note: {len(paths):,} of the {total:,} images without labels in '{self.folder}' "
                f"are used, which is the maximum{left_out}."
            )
        return (
            f"note: {counted(total, 'image')} without labels in '{self.folder}' are used, too"
            f"{left_out}."
        )

    @property
    def digest(self) -> str:
        """16 hex digits that identify the images by their paths and sizes, on any machine."""
        hasher = hashlib.sha256()
        for path in self.paths:
            size = _status(path).st_size
            hasher.update(os.fsencode(path.relative_to(self.folder)) + f"\0{size}\0".encode())
        return hasher.hexdigest()[:16]

    @cached_property
    def _every(self) -> list[Path]:
        """The paths of all images, sorted."""
        try:
            paths = walk(self.folder, self.folder.resolve()).all_images
        except OSError as error:
            raise ConfigError(
                f"the folder of images without labels, '{self.folder}', cannot be read "
                f"({error.strerror}). Restore it."
            ) from error
        if not paths:
            raise ConfigError(
                f"the folder of images without labels, '{self.folder}', has no images."
            )
        return paths

    @cached_property
    def _unique(self) -> list[Path]:
        """The files whose content is not that of an image of the data set."""
        paths, labelled, hashes = self._every, dict[int, list[Path]](), dict[int, set[str]]()
        if self.labelled is None:
            return paths
        try:
            for path in walk(self.labelled, self.labelled.resolve()).all_images:
                labelled.setdefault(_status(path).st_size, []).append(path)
        except OSError as error:
            raise ConfigError(
                f"the folder of the data set, '{self.labelled}', cannot be read ({error.strerror}),"
                " so that copies of its images cannot be found among those without labels. "
                "Restore it."
            ) from error
        unique = []
        for path in paths:
            size = _status(path).st_size
            if size in labelled and size not in hashes:
                hashes[size] = set(map(_hash, labelled[size]))
            if size not in labelled or _hash(path) not in hashes[size]:
                unique.append(path)
        if not unique:
            raise ConfigError(
                f"all images in '{self.folder}' are in the data set too, so there are none without "
                "labels."
            )
        return unique


def _hash(path: Path) -> str:
    """Return a hash of a file's content; empty if it cannot be read, which `check` reports."""
    status = _status(path)
    return _content_hash(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _content_hash(path: Path, size: int, changed_ns: int) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _status(path: Path) -> os.stat_result:
    """Return the status of a file, or of the link itself if it is broken."""
    return path.stat() if path.exists() else path.lstat()


class FilesPart(Part):
    """Images without labels that are decoded when they are needed, in the form of a data set.

    Their fingerprint does not depend on the pixels, so that images whose features are cached need
    not be decoded. The targets are -1.
    """

    def __init__(self, paths: list[Path], dataset: Dataset, beat: Callable[[], None]) -> None:
        targets = np.full(len(paths), -1)
        self.__dict__.update(paths=paths, dataset=dataset, beat=beat, targets=targets)  # frozen

    paths: list[Path]
    dataset: Dataset
    beat: Callable[[], None]

    @property
    def shape(self) -> tuple[int, ...]:
        """(count, height, width, channels)."""
        return len(self.paths), *self.dataset.train.shape[1:]

    @property
    def is_ragged(self) -> bool:
        """False: all images are resized."""
        return False

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that identify the files and the form in which they are decoded."""
        hasher = hashlib.sha256(f"{self.shape}{self.dataset.value_range}".encode())
        for path in self.paths:
            status = _status(path)
            hasher.update(os.fsencode(path.absolute()))
            hasher.update(f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        return hasher.hexdigest()[:16]

    @property
    def images(self) -> Images:
        """The decoded images.

        Raises:
            ConfigError: an image is damaged.
        """
        with ThreadPoolExecutor(processors()) as pool:
            return np.stack(list(pool.map(self._decode, self.paths)))

    def _decode(self, path: Path) -> Images:
        self.beat()
        _, height, width, channels = self.shape
        mode = "L" if channels == 1 else "RGB"
        try:
            return decode(path, (width, height), mode, self.dataset.value_range or SIXTEEN_BITS)
        except DataError as error:
            raise ConfigError(
                f"the image without a label '{printable(str(path))}' cannot be read: {error}. "
                "Remove it."
            ) from error


def batches(
    paths: list[Path], dataset: Dataset, beat: Callable[[], None] = lambda: None
) -> Iterator[FilesPart]:
    """Yield images in batches, in the form of a data set."""
    for first in range(0, len(paths), BATCH):
        yield FilesPart(paths[first : first + BATCH], dataset, beat)
