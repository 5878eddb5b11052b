"""The layout of a folder of images: its parts and classes, and what is not read."""

import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from trainables.datasets.arrays import LeftOut
from trainables.datasets.images import SUFFIXES
from trainables.errors import DataError, is_text, printable

PART = re.compile(
    r"(?:(train(?:ing)?)|(val(?:id(?:ation)?)?)|test(?:ing)?)"
    r"(?:[ _-]?(?:set|data|images|part|split))?",
    re.IGNORECASE,
)
"""Names of folders that mean a part.

For example `train`, `Training_set`, `val`, `validation`, `test-images`.
"""
MAX_KINDS = 5
"""The largest number of suffixes of files not read that are counted by themselves."""

Members = list[tuple[str, Path]]
"""The (class, path) of each image of a part."""


@dataclass
class Layout:
    """The images by part, and what is left out.

    The parts are `train` and, where they are given, `val` and `test`.
    """

    root: Path
    parts: dict[str, Members] = field(default_factory=dict)
    reasons: dict[Path, str] = field(default_factory=dict)
    """Why each file or folder that is not read is left out."""

    @property
    def paths(self) -> list[Path]:
        """Every image, in order."""
        return [path for members in self.parts.values() for _, path in members]

    def name(self, path: Path) -> str:
        """Return a path relative to the root, with `/` between folders."""
        return path.as_posix()[self._start :]

    @cached_property
    def _start(self) -> int:
        """The length of the root and the separator behind it: 100,000 names are cut at once."""
        return len((self.root / "x").as_posix()) - 1

    @property
    def left_out(self) -> list[LeftOut]:
        """What is not read, in the order of its paths."""
        return [
            LeftOut(printable(self.name(path)), self.reasons[path]) for path in sorted(self.reasons)
        ]

    @property
    def remarks(self) -> list[str]:
        """Lines on what is not read, one a reason."""
        by_reason: dict[str, list[Path]] = {}
        for path, reason in self.reasons.items():
            by_reason.setdefault(reason, []).append(path)
        return [
            tell(by_reason[reason], f"first: {printable(self.name(min(by_reason[reason])))}")
            for reason, tell in TELL.items()
            if reason in by_reason
        ]


def _tell_not_read(paths: list[Path], first: str) -> str:
    kinds = Counter(printable(path.suffix.lower()[:20]) or "without a suffix" for path in paths)
    told = [f"{count:,} {kind}" for kind, count in kinds.most_common(MAX_KINDS)]
    if rest := len(paths) - sum(count for _, count in kinds.most_common(MAX_KINDS)):
        told.append(f"{rest:,} others")
    return (
        f"note: {_counted(paths, 'file')} not read: {', '.join(told)} ({first}). "
        f"Read are {allowed()}."
    )


NOT_READ = "not an image format that is read"
OUTSIDE = "in no class's folder"
LINKED = "a linked folder"
BESIDE = "beside the parts"
TELL: dict[str, Callable[[list[Path], str], str]] = {
    NOT_READ: _tell_not_read,
    OUTSIDE: lambda paths, first: (
        f"note: {_counted(paths, 'image')} left out: in no class's folder ({first})."
    ),
    LINKED: lambda paths, first: (
        f"note: {_counted(paths, 'linked folder')} left out ({first}): links to images are "
        "followed, those not."
    ),
    BESIDE: lambda paths, first: (
        f"note: {_counted(paths, 'folder')} left out: beside the parts ({first})."
    ),
}
"""For each reason to leave something out, the line that tells of it."""


def _counted(what: list[Path], name: str) -> str:
    return f"{len(what):,} {name} is" if len(what) == 1 else f"{len(what):,} {name}s are"


def allowed() -> str:
    """Return the suffixes of the files that are read."""
    return ", ".join(sorted(SUFFIXES))


def part_of(name: str) -> str:
    """Return the part that a folder's name means: `train`, `val`, `test`, or an empty string."""
    found = PART.fullmatch(name)
    return "" if found is None else "train" if found[1] else "val" if found[2] else "test"


def layout_of(root: Path) -> Layout:
    """Find the images below a folder.

    Raises:
        DataError: there are none, or it cannot be told what is a part and what a class.
        OSError: a folder cannot be read.
    """
    found, here = Layout(root), _class_folders(root)
    parts = _parts(root, here)
    if not parts:
        found.parts["train"] = _classes(root, found)
        return found
    for part in ("train", "val", "test"):
        if part in parts:
            found.parts[part] = _classes(parts[part], found)
    _strays(root, found)
    found.reasons |= {folder: BESIDE for folder in here if folder not in parts.values()}
    known = {name for name, _ in found.parts["train"]}
    for part in ("val", "test"):
        if extra := sorted({name for name, _ in found.parts.get(part, [])} - known):
            places = f"{str(parts[part])!r} but not in {str(parts['train'])!r}"
            raise DataError(f"class {extra[0]!r} is in {places}. Each class needs training images.")
    return found


def _parts(root: Path, here: list[Path]) -> dict[str, Path]:
    """Return the folders of the parts by name; none where all folders are classes."""
    named = [(part, folder) for folder in here if (part := part_of(folder.name))]
    parts = dict(reversed(named))
    others = [folder for folder in here if not part_of(folder.name)]
    as_classes = f"If they are classes, put all class folders into {str(root / 'train')!r}."
    for part, folder in named:
        if parts[part] != folder:
            names = f"{parts[part].name!r} and {folder.name!r}"
            raise DataError(
                f"{str(root)!r} has two folders for the {part} part, {names}. "
                f"Keep one. {as_classes}"
            )
    if not named or (set(parts) == {"train"} and others and not _class_folders(parts["train"])):
        return {}  # a class of trains lies beside others, and holds images as they do
    names = " and ".join(repr(folder.name) for _, folder in named)
    if others and not _are_alike(parts):
        remedy = (
            "If parts, put all training classes into 'train' and take "
            f"{printable(repr(others[0].name))} away. {as_classes}"
        )
        raise DataError(
            f"{names} in {str(root)!r} may be parts or classes beside "
            f"{printable(repr(others[0].name))}. {remedy}"
        )
    if "train" not in parts:
        raise DataError(
            f"{str(root)!r} has {names} but no 'train'. "
            f"Name the folder of the training part 'train'. {as_classes}"
        )
    return parts


def _are_alike(parts: dict[str, Path]) -> bool:
    """Return whether there are a training part and others with no classes but those of training.

    They can then be nothing else than parts.
    """
    classes = {
        part: {folder.name for folder in _class_folders(folder)} for part, folder in parts.items()
    }
    return len(parts) > 1 and all(
        names and names <= classes.get("train", set()) for names in classes.values()
    )


def _class_folders(root: Path) -> list[Path]:
    return sorted(
        path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _classes(root: Path, found: Layout) -> Members:
    """Return the images of the classes in this folder."""
    folders, members = _class_folders(root), Members()
    if not folders:
        raise DataError(
            f"no class folders in {str(root)!r}. Expected one sub-folder per class, "
            "holding its images."
        )
    _strays(root, found)
    for folder in folders:
        if not is_text(folder.name):
            raise DataError(f"the name of class folder {str(folder)!r} is not UTF-8. Rename it.")
        if not (paths := _images(folder, found)):
            raise DataError(f"class folder {str(folder)!r} holds no images. Allowed: {allowed()}.")
        members += [(folder.name, path) for path in paths]
    return members


def _strays(root: Path, found: Layout) -> None:
    """Note the files beside class folders."""
    for path in root.iterdir():
        if not path.name.startswith(".") and not path.is_dir():
            found.reasons[path] = OUTSIDE if path.suffix.lower() in SUFFIXES else NOT_READ


def _images(folder: Path, found: Layout) -> list[Path]:
    """Return the images of a class, in order, those in sub-folders too.

    A link that leads nowhere counts as an image, and is reported as unreadable later. A pipe does
    not: reading it would wait for ever.
    """
    images, pending = [], [str(folder)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_symlink() and path.is_dir():
                    found.reasons[path] = LINKED
                elif path.suffix.lower() in SUFFIXES and (entry.is_file() or not path.exists()):
                    images.append(path)
                else:
                    found.reasons[path] = NOT_READ
    return sorted(images)
