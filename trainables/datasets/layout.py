"""The layout of a folder of images: its parts and classes, and what is not read.

The folder is walked once, into `Folder`s (`walk`); all else is told from those, by `parts` and
`classes`.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from trainables.datasets.arrays import LeftOut
from trainables.datasets.images import SUFFIXES, advice
from trainables.datasets.walk import HIDDEN, LINKED, NOT_READ, OTHER_FORMAT, Folder
from trainables.errors import DataError, counted, printable

MAX_KINDS = 5
"""The largest number of suffixes of files not read that are counted by themselves."""
MAX_PROBLEMS = 20

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
    """The reason for which each file or folder that is not read is left out."""
    notes: list[str] = field(default_factory=list)
    """Lines on how the folder was understood."""
    problems: list[str] = field(default_factory=list)
    """Lines on what is wrong with it; its images cannot be used while there are any."""

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

    def shown(self, folder: Folder) -> str:
        """Return a folder's name relative to the root, in quotes; of the root all of it."""
        return repr(printable(self.name(folder.path) or str(self.root)))

    @property
    def left_out(self) -> list[LeftOut]:
        """All that is not read, in the order of its paths."""
        return [
            LeftOut(printable(self.name(path)), self.reasons[path]) for path in sorted(self.reasons)
        ]

    @property
    def remarks(self) -> list[str]:
        """The notes, and lines on what is not read, one a reason."""
        by_reason: dict[str, list[Path]] = {}
        for path, reason in self.reasons.items():
            by_reason.setdefault(reason, []).append(path)
        return self.notes + [
            tell(by_reason[reason], f"first: {printable(self.name(min(by_reason[reason])))}")
            for reason, tell in TELL.items()
            if reason in by_reason
        ]

    @property
    def sizes(self) -> Counter[str]:
        """The number of training images of each class."""
        return Counter(name for name, _ in self.parts["train"])

    def refuse(self, problem: str) -> DataError:
        """Return the error of a folder that cannot be understood, with what else is wrong."""
        return refused([*self.problems, problem])


def refused(problems: list[str]) -> DataError:
    """Return an error with all that is wrong with a folder, a line each."""
    rest = len(problems) - MAX_PROBLEMS
    last = [f"and {rest:,} more problems."] if rest > 0 else []
    return DataError("\n".join([*problems[:MAX_PROBLEMS], *last]))


def kind_of(path: Path) -> str:
    """Return a file's suffix in lower case; `without a suffix` where no letter is in it."""
    suffix = path.suffix.lower()
    return printable(suffix[:20]) if re.search("[a-z]", suffix) else "without a suffix"


def kinds(paths: list[Path]) -> str:
    """Return how many of these files there are of each kind, the most frequent kinds first."""
    found = Counter(map(kind_of, paths))
    told = [f"{count:,} {kind}" for kind, count in found.most_common(MAX_KINDS)]
    if rest := len(paths) - sum(count for _, count in found.most_common(MAX_KINDS)):
        told.append(counted(rest, "other"))
    return ", ".join(told)


EMPTY = "a class folder without images"
OUTSIDE = "in no class's folder"
BESIDE = "beside the parts"
TELL: dict[str, Callable[[list[Path], str], str]] = {
    OTHER_FORMAT: lambda paths, first: (
        f"warning: {are(paths, 'image')} not read: {kinds(paths)} ({first}). "
        f"{advice(path.suffix.lower() for path in paths)}"
    ),
    NOT_READ: lambda paths, first: (
        f"note: {are(paths, 'file')} not read: {kinds(paths)} ({first}). Read are {allowed()}."
    ),
    OUTSIDE: lambda paths, first: (
        f"warning: {are(paths, 'image')} left out: in no class's folder ({first})."
    ),
    EMPTY: lambda paths, first: (
        f"warning: {are(paths, 'folder')} left out: no images in it ({first})."
        if len(paths) == 1
        else f"warning: {are(paths, 'folder')} left out: no images in them ({first})."
    ),
    LINKED: lambda paths, first: (
        f"note: {are(paths, 'linked folder')} left out ({first}): a link may stand for a class or "
        "a part, not for a folder inside one, and may not lead back into the data."
    ),
    BESIDE: lambda paths, first: (
        f"note: {are(paths, 'folder')} left out: beside the parts ({first})."
    ),
    HIDDEN: lambda paths, first: f"note: {are(paths, 'hidden or system file')} left out ({first}).",
}
"""For each reason to leave something out, the line that tells of it."""


def are(what: Sequence[object], noun: str) -> str:
    """Return `1 image is`, `1,200 images are`."""
    return f"{counted(len(what), noun)} {'is' if len(what) == 1 else 'are'}"


def allowed() -> str:
    """Return the suffixes of the files that are read."""
    return ", ".join(sorted(SUFFIXES))
