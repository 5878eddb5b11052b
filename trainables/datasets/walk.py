"""A walk through a folder of images: what lies where, before it is known what is a class."""

import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from trainables.datasets.images import OTHER_IMAGES, SUFFIXES, looks_like_an_image
from trainables.datasets.names import is_hidden

NOT_READ = "not an image format that is read"
OTHER_FORMAT = "an image format that is not read"
HIDDEN = "hidden or system file"
LINKED = "a linked folder"
DEPTH = 2
"""The depth of a folder, below which links to folders are not followed."""


@dataclass
class Folder:
    """A folder's content, as far as it is not a system's own."""

    path: Path
    images: list[Path] = field(default_factory=list)
    folders: list["Folder"] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    """Links to folders outside the data set."""
    others: dict[Path, str] = field(default_factory=dict)
    """All else that is not read, each with the reason."""

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @cached_property
    def all_images(self) -> list[Path]:
        """The images in it and in its sub-folders, in order."""
        return sorted(
            [*self.images, *(path for folder in self.folders for path in folder.all_images)]
        )

    @property
    def filled(self) -> list["Folder"]:
        """The sub-folders that hold images."""
        return [folder for folder in self.folders if folder.all_images]

    @property
    def not_read(self) -> dict[Path, str]:
        """The reason for each thing in it and in its sub-folders that is not read."""
        found = self.others | dict.fromkeys(self.links, LINKED)
        for folder in self.folders:
            found |= folder.not_read
        return found


def walked(path: Path, root: Path, depth: int = 0) -> Folder:
    """Return what lies in a folder, which is so deep in the data set, whose root is resolved.

    Links to folders are followed where they may stand for classes or parts, but not on and on, nor
    to what is read without them. A link that leads nowhere counts as an image, and is reported as
    unreadable later. A pipe does not: reading it would wait for ever.
    """
    found = Folder(path)
    with os.scandir(path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            one, suffix = path / entry.name, Path(entry.name).suffix.lower()
            if is_hidden(entry.name):
                found.others[one] = HIDDEN
            elif entry.is_dir(follow_symlinks=False):
                found.folders.append(walked(one, root, depth + 1))
            elif entry.is_symlink() and one.is_dir():
                if _is_within_or_above(one.resolve(), root):
                    found.others[one] = LINKED
                else:
                    found.links.append(one)
            elif not entry.is_file() and one.exists():
                found.others[one] = NOT_READ
            elif suffix in SUFFIXES or (
                not re.search("[a-z]", suffix) and looks_like_an_image(one)
            ):
                found.images.append(one)
            else:
                found.others[one] = OTHER_FORMAT if suffix in OTHER_IMAGES else NOT_READ
    if depth == 0 or (depth <= DEPTH and not found.images):
        linked = [walked(one, root, depth + 1) for one in found.links]
        found.folders = sorted([*found.folders, *linked], key=lambda folder: folder.path)
        found.links = []
    return found


def _is_within_or_above(path: Path, root: Path) -> bool:
    return path.is_relative_to(root) or root.is_relative_to(path)
