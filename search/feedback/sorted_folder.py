"""A folder in which people sort images by their class: copies in `PART/CLASS/`.

The part of an image (`train`, `val` or `test`) follows from the hash of its name, so that the
validation and the test set are random samples of all images: which images are labelled first,
because much can be learnt from them, does not matter for what is measured.
"""

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

from trainables.datasets.images import SUFFIXES
from trainables.datasets.names import is_hidden, part_of
from trainables.errors import ConfigError, printable

TRAIN, VAL, TEST = "train", "val", "test"
TEST_SHARE = VAL_SHARE = 0.2
"""The shares of all images that are set apart for the test and the validation set.

They are those that a search takes from data without parts.
"""
MAX_NAME = 100
"""The maximum length of a class's name, in characters."""


def planned_part(name: str) -> str:
    """Return the part in which the image of this name belongs."""
    place = int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8]) / 2**64
    return TEST if place < TEST_SHARE else VAL if place < TEST_SHARE + VAL_SHARE else TRAIN


def file_name(path: Path, root: Path) -> str:
    """Return the name under which an image below `root` is copied.

    It is the image's own name, with a mark of its folder if it is in a sub-folder.
    """
    folder = path.relative_to(root).parent
    if folder == Path():
        return path.name
    mark = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
    return f"{path.stem}-{mark}{path.suffix}"


def check_class(name: str) -> str:
    """Return the name of a class without spaces around it.

    Raises:
        ConfigError: a folder of this name would not be read as a class.
    """
    name = name.strip()
    reason = (
        "is empty"
        if not name
        else f"has more than {MAX_NAME} characters"
        if len(name) > MAX_NAME
        else "has a character that folders cannot have"
        if "/" in name or "\\" in name or not name.isprintable()
        else "begins with a dot, or is reserved"
        if is_hidden(name)
        else f"would be read as a {part_of(name)} set"
        if part_of(name)
        else ""
    )
    if reason:
        raise ConfigError(f"the class '{printable(name[:MAX_NAME])}' {reason}. Use another name.")
    return name


def class_names(text: str) -> tuple[str, ...]:
    """Read the names of classes that are separated by commas.

    Raises:
        ConfigError: a folder of such a name would not be read as a class.
    """
    return tuple(dict.fromkeys(map(check_class, text.split(","))))


class SortedFolder:
    """A folder with copies of the images that have a class."""

    def __init__(self, path: Path) -> None:
        """Read which images have been sorted; the folder may be missing.

        Raises:
            ConfigError: it has other content.
        """
        self.path = path
        self._paths: dict[str, Path] = {}
        classes: dict[str, None] = {}
        for part in (TRAIN, VAL, TEST):
            for folder in sorted(path.glob(f"{part}/*/")):
                classes[folder.name] = None
                for file in folder.iterdir():
                    if file.suffix.lower() in SUFFIXES and not is_hidden(file.name):
                        self._paths[file.name] = file
        self.classes = tuple(sorted(classes))
        """The classes of which there is a folder."""
        if not classes and path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(
                f"'{path}' is not empty, and is not a folder of sorted images. Choose another "
                "--out."
            )

    def __contains__(self, name: object) -> bool:
        return name in self._paths

    def labels(self, part: str) -> dict[str, str]:
        """Return the class of each sorted image of a part, by the name of its file."""
        return {
            name: path.parent.name
            for name, path in self._paths.items()
            if path.parent.parent.name == part
        }

    def count(self, part: str, label: str) -> int:
        """Count the images of a class in a part."""
        folder = self.path / part / label
        return sum(path.parent == folder for path in self._paths.values())

    def put(self, source: Path, name: str, label: str) -> None:
        """Copy an image to the folder of its class; a copy in another class is removed.

        The first image of each class is a training image, because every class needs one.

        Raises:
            OSError: the image cannot be copied.
        """
        before = self._paths.get(name)
        part = planned_part(name)
        if part != TRAIN and not self.count(TRAIN, label):
            part = TRAIN
        folder = self.path / part / label
        if before is not None and before.parent.name == label:
            return
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{name}.partial"
        try:
            shutil.copyfile(source, partial)
            partial.replace(folder / name)
        finally:
            partial.unlink(missing_ok=True)
        self._paths[name] = folder / name
        if before is not None:
            self._remove(before)

    def remove(self, name: str) -> None:
        """Remove the copy of an image.

        Raises:
            OSError: it cannot be removed.
        """
        if (path := self._paths.pop(name, None)) is not None:
            self._remove(path)

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # the class still has other images there
            path.parent.rmdir()
