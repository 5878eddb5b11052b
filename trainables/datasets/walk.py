"""The content of a folder of images, listed before it is known which folders are classes."""

import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from trainables.datasets.images import OTHER_IMAGES, SUFFIXES, looks_like_an_image
from trainables.datasets.names import is_hidden

NOT_READ = "not a supported image format"
OTHER_FORMAT = "an unsupported image format"
HIDDEN = "hidden or system file"
LINKED = "a linked folder"
DEPTH = 2
"""The maximum depth, below the root, of folders in which links to folders are followed."""


@dataclass
class Folder:
    """The content of a folder."""

    path: Path
    images: list[Path] = field(default_factory=list)
    folders: list["Folder"] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    """Links, which are not followed, to folders outside the data set."""
    unread: dict[Path, str] = field(default_factory=dict)
    """All other entries, which are not read, each with the reason."""

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @cached_property
    def all_images(self) -> list[Path]:
        """The images in the folder and in its sub-folders, at any depth, sorted by path."""
        return sorted(
            [*self.images, *(path for folder in self.folders for path in folder.all_images)]
        )

    @property
    def filled(self) -> list["Folder"]:
        """The sub-folders that contain images, at any depth."""
        return [folder for folder in self.folders if folder.all_images]

    @property
    def not_read(self) -> dict[Path, str]:
        """The reason for each entry that is not read, in the folder and its sub-folders."""
        reasons = self.unread | dict.fromkeys(self.links, LINKED)
        for folder in self.folders:
            reasons |= folder.not_read
        return reasons


def walk(path: Path, root: Path, depth: int = 0) -> Folder:
    """List a folder and its sub-folders, recursively.

    Links to folders are followed if they may stand for classes or parts (`DEPTH`), but not if they
    lead into the data set or to a folder above it. A broken link with an image's suffix counts as
    an image, and is later reported as unreadable. A named pipe is not an image, because reading
    it would block forever.

    Args:
        path: the folder.
        root: the data set's root, resolved.
        depth: the folder's depth below the root.
    """
    folder = Folder(path)
    with os.scandir(path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            child, suffix = path / entry.name, Path(entry.name).suffix.lower()
            if is_hidden(entry.name):
                folder.unread[child] = HIDDEN
            elif entry.is_dir(follow_symlinks=False):
                folder.folders.append(walk(child, root, depth + 1))
            elif entry.is_symlink() and child.is_dir():
                if _is_within_or_above(child.resolve(), root):
                    folder.unread[child] = LINKED
                else:
                    folder.links.append(child)
            elif not entry.is_file() and child.exists():
                folder.unread[child] = NOT_READ
            elif suffix in SUFFIXES or (
                not re.search("[a-z]", suffix) and looks_like_an_image(child)
            ):
                folder.images.append(child)
            else:
                folder.unread[child] = OTHER_FORMAT if suffix in OTHER_IMAGES else NOT_READ
    if depth == 0 or (depth <= DEPTH and not folder.images):
        linked = [walk(link, root, depth + 1) for link in folder.links]
        folder.folders = sorted([*folder.folders, *linked], key=lambda folder: folder.path)
        folder.links = []
    return folder


def _is_within_or_above(path: Path, root: Path) -> bool:
    return path.is_relative_to(root) or root.is_relative_to(path)
