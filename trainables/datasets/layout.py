"""The layout of a folder of images: its parts and classes, and the files that are not read.

`walk` lists the folder once, as `Folder` objects; `parts` and `classes` interpret these.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from trainables.datasets.arrays import LeftOut
from trainables.datasets.images import SUFFIXES, advice
from trainables.datasets.walk import HIDDEN, LINKED, NOT_READ, OTHER_FORMAT, Folder
from trainables.errors import DataError, counted, printable
from trainables.tasks import TASKS

MAX_KINDS = 5
"""The maximum number of suffixes in a text that counts files by suffix."""
MAX_PROBLEMS = 20
FIRST = 3
"""The number of files that a message names."""

Members = list[tuple[str, Path]]
"""The (class, path) of each image of a part."""


@dataclass
class Layout:
    """The images by part, and the files that are left out.

    The parts are `train` and, if the folder has them, `val` and `test`.
    """

    root: Path
    parts: dict[str, Members] = field(default_factory=dict)
    reasons: dict[Path, str] = field(default_factory=dict)
    """The reason for each file or folder that is left out."""
    notes: list[str] = field(default_factory=list)
    """Lines on how the folder was interpreted."""
    problems: list[str] = field(default_factory=list)
    """Lines on what is wrong with the folder; if there are any, its images cannot be used."""

    resizes = True
    """True if images are resized to `data.image_size` when they are decoded."""

    @property
    def files(self) -> list[Path]:
        """The paths of all files that decide on the decoded images and their targets."""
        return self.paths

    @property
    def paths(self) -> list[Path]:
        """The paths of all images, part by part."""
        return [path for members in self.parts.values() for _, path in members]

    def name(self, path: Path) -> str:
        """Return a path relative to the root, with `/` between folders."""
        return path.as_posix()[self._start :]

    def first(self, paths: Iterable[Path]) -> str:
        """Name the first of these files for a message."""
        names = [printable(self.name(path)) for path in sorted(paths)[:FIRST]]
        return f"first: {', '.join(names)}"

    @cached_property
    def _start(self) -> int:
        """The length of the root with its separator; cached because there may be 100,000 names."""
        return len((self.root / "x").as_posix()) - 1

    def quote(self, folder: Folder) -> str:
        """Quote a folder's path relative to the root for messages; for the root, its own path."""
        return repr(printable(self.name(folder.path) or str(self.root)))

    @property
    def left_out(self) -> list[LeftOut]:
        """All files and folders that are left out, sorted by path."""
        return [
            LeftOut(printable(self.name(path)), self.reasons[path]) for path in sorted(self.reasons)
        ]

    @property
    def remarks(self) -> list[str]:
        """The notes, and a line for each reason for which files are left out."""
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
        """Return the error for a folder that cannot be interpreted, with all earlier problems."""
        return layout_error([*self.problems, problem])


def hint_at_default() -> str:
    """Return a sentence on the task that reads folders which no other task recognises."""
    task = next(task for task in TASKS.values() if task.is_implied)
    return f"If it has {task.folder}, use --task {task.name}."


def layout_error(problems: list[str]) -> DataError:
    """Return an error that lists the problems of a folder, at most `MAX_PROBLEMS`, one per line."""
    rest = len(problems) - MAX_PROBLEMS
    last = [f"and {rest:,} more problems."] if rest > 0 else []
    return DataError("\n".join([*problems[:MAX_PROBLEMS], *last]))


def kind_of(path: Path) -> str:
    """Return a file's suffix in lower case; `without a suffix` if it has no letters."""
    suffix = path.suffix.lower()
    return printable(suffix[:20]) if re.search("[a-z]", suffix) else "without a suffix"


def kinds(paths: list[Path]) -> str:
    """Count these files by suffix, most frequent first: `12 .txt, 1 .xml`."""
    counts = Counter(map(kind_of, paths))
    texts = [f"{count:,} {kind}" for kind, count in counts.most_common(MAX_KINDS)]
    if rest := len(paths) - sum(count for _, count in counts.most_common(MAX_KINDS)):
        texts.append(counted(rest, "other"))
    return ", ".join(texts)


EMPTY = "a class folder without images"
OUTSIDE = "not in a class folder"
BESIDE = "next to the training, validation or test folder"
TELL: dict[str, Callable[[list[Path], str], str]] = {
    OTHER_FORMAT: lambda paths, first: (
        f"warning: {are(paths, 'image')} not read: {kinds(paths)} ({first}). "
        f"{advice(path.suffix.lower() for path in paths)}"
    ),
    NOT_READ: lambda paths, first: (
        f"note: {are(paths, 'file')} not read: {kinds(paths)} ({first}). "
        f"Supported formats: {readable_suffixes()}."
    ),
    OUTSIDE: lambda paths, first: (
        f"warning: {are(paths, 'image')} left out, because only images in class folders are read "
        f"({first})."
    ),
    EMPTY: lambda paths, first: (
        f"warning: {are(paths, 'class folder')} left out, because no images were found there "
        f"({first})."
    ),
    LINKED: lambda paths, first: (
        f"note: {are(paths, 'linked folder')} left out ({first}). A link may replace the folder of "
        "a class or of a training, validation or test set, but not a folder inside a class, and "
        "must not lead back into the data."
    ),
    BESIDE: lambda paths, first: (
        f"note: {are(paths, 'folder')} left out, because only the training, validation and test "
        f"folders are read ({first})."
    ),
    HIDDEN: lambda paths, first: f"note: {are(paths, 'hidden or system file')} left out ({first}).",
}
"""The functions that format the line for each reason to leave files out.

The lines are printed in this order.
"""


def are(what: Sequence[object], noun: str) -> str:
    """Format the number of things with noun and verb: `1 image is`, `1,200 images are`."""
    return f"{counted(len(what), noun)} {'is' if len(what) == 1 else 'are'}"


def readable_suffixes() -> str:
    """Return the suffixes of the image files that are read, as one text."""
    return ", ".join(sorted(SUFFIXES))
