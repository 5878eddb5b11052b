"""A folder in which people sort images by their class: copies in `PART/CLASS/`.

The part of an image (`train`, `val` or `test`) follows from the hash of its name, so that the
validation and the test set are random samples of all images: which images are labelled first,
because much can be learned from them, does not matter for what is measured.
"""

import hashlib
import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from trainables.datasets.names import is_hidden, key_of, part_of
from trainables.datasets.walk import walk
from trainables.errors import ConfigError, printable

TRAIN, VAL, TEST = PARTS = "train", "val", "test"
TEST_SHARE = VAL_SHARE = 0.2
"""The shares of all images that are set apart for the test and the validation set.

They are those that a search takes from data without parts.
"""
MAX_BYTES = 200
"""The maximum length of a class's name, in bytes: folders of longer names cannot be made."""


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


def check_class(name: str, existing: Collection[str] = ()) -> str:
    """Return the name of a class without spaces around it.

    Args:
        name: the name.
        existing: the names of the other classes.

    Raises:
        ConfigError: a folder of this name would not be read as a class, or as another class.
    """
    name = name.strip()
    same = [each for each in existing if each != name and key_of(each) == key_of(name)]
    reason = (
        "is empty"
        if not name
        else "is too long"
        if len(os.fsencode(name)) > MAX_BYTES
        else "has a character that folders cannot have"
        if "/" in name or "\\" in name or not name.isprintable()
        else "begins with a dot, or is reserved"
        if is_hidden(name)
        else f"would be read as a {part_of(name)} set"
        if part_of(name)
        else f"differs from '{same[0]}' only in its case or in its separators"
        if same
        else ""
    )
    if reason:
        raise ConfigError(f"the class '{printable(name[:50])}' {reason}. Use another name.")
    return name


def class_names(text: str) -> tuple[str, ...]:
    """Read the names of classes that are separated by commas.

    Raises:
        ConfigError: see `check_class`.
    """
    names: list[str] = []
    for part in text.split(","):
        names.append(check_class(part, names))
    return tuple(dict.fromkeys(names))


class SortedFolder:
    """A folder with copies of the images that have a class."""

    def __init__(self, path: Path) -> None:
        """Read which images have been sorted; the folder may be missing.

        Raises:
            ConfigError: it has other content.
        """
        self.path = path
        self._paths: dict[str, Path] = {}
        images = walk(path, path.resolve()).all_images if path.is_dir() else []
        for image in images:
            part = image.relative_to(path).parts[0]
            if part not in PARTS or image.parent.parent != path / part:
                raise ConfigError(
                    f"'{path}' is not a folder of sorted images (first other one: "
                    f"'{printable(str(image.relative_to(path)))}'). Choose another --out."
                )
            if image.name in self._paths:
                raise ConfigError(
                    f"'{path}' has two images of the name '{printable(image.name)}', in "
                    f"'{self._paths[image.name].parent.name}' and in '{image.parent.name}'. Remove "
                    "one of them, or choose another --out."
                )
            self._paths[image.name] = image
        if path.exists() and not images and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(
                f"'{path}' is not empty, and is not a folder of sorted images. Choose another "
                "--out."
            )
        self.classes = tuple(sorted({image.parent.name for image in images}))
        """The classes that had images."""

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

        Another process may have made that copy. The first image of each class is a training image,
        because every class needs one.

        Raises:
            OSError: the image cannot be copied.
        """
        before = self._find(name)
        if before is not None and before.parent.name == label:
            self._paths[name] = before
            return
        part = planned_part(name) if self.count(TRAIN, label) else TRAIN
        self._copy(source, self.path / part / label / name)
        if before is not None:
            self._remove(before)

    def remove(self, name: str) -> None:
        """Remove the copy of an image.

        Raises:
            OSError: it cannot be removed.
        """
        if (path := self._paths.pop(name, None)) is not None:
            self._remove(path)

    def _find(self, name: str) -> Path | None:
        """Return the path of an image's copy; None if there is none."""
        folders = (folder for part in PARTS for folder in (self.path / part).glob("*/"))
        return next((folder / name for folder in folders if (folder / name).is_file()), None)

    def _copy(self, source: Path, place: Path) -> None:
        """Copy an image such that it is complete as soon as it has its name."""
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{hashlib.sha256(os.fsencode(place.name)).hexdigest()[:16]}")
        try:
            shutil.copyfile(source, partial)
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
        self._paths[place.name] = place

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # the class still has other images there
            path.parent.rmdir()
        label = path.parent.name
        rest = [image for image in self._paths.values() if image.parent.name == label]
        if rest and not self.count(TRAIN, label):
            place = self.path / TRAIN / label / rest[0].name
            place.parent.mkdir(parents=True, exist_ok=True)
            rest[0].replace(place)
            self._paths[place.name] = place
