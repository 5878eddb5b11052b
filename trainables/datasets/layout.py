"""The layout of a folder of images: its parts and classes, and what is not read.

The folder is walked once, into `Folder`s; all else is told from those. What can be used in one way
alone is used, and a line says how; what could be read in two ways is refused.
"""

import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path

from trainables.datasets.arrays import TITLES, LeftOut
from trainables.datasets.images import OTHER_IMAGES, SUFFIXES, advice, looks_like_an_image
from trainables.errors import DataError, counted, is_text, printable

_TRAIN, _VAL, _TEST = "train(?:ing)?", "val(?:id(?:ation)?)?", "test(?:ing)?"
PART = re.compile(
    rf"(?:({_TRAIN})|({_VAL})|{_TEST})(?:[ _-]?(?:set|data|images|imgs|part|split))?",
    re.IGNORECASE,
)
"""Names of folders that mean a part.

For example `train`, `Training_set`, `val`, `validation`, `test-images`.
"""
LIKE_A_PART = re.compile(
    rf"(?:.*[ _.-])?(?:({_TRAIN})|({_VAL}|dev|eval(?:uation)?)|(?:{_TEST}|hold-?out))"
    r"(?:[ _-]?(?:set|data|images|imgs|part|split))?(?:[ _.-].*)?",
    re.IGNORECASE,
)
"""Names that mean a part only where all of them hold the same classes: `flowers_train`, `dev`."""
SYSTEM = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"}
"""Files and folders that systems leave, in lower case, beside those that begin with a dot."""
TABLES, ARCHIVES = (
    {".csv", ".tsv", ".xlsx", ".json"},
    {".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"},
)
MAX_KINDS = 5
"""The largest number of suffixes of files not read that are counted by themselves."""
MAX_PROBLEMS = 20
DEPTH = 2
"""The depth of a folder, below which links to folders are not followed."""
NEAR = 1000
"""The largest number of entries that are looked at in a folder outside the data set."""

Members = list[tuple[str, Path]]
"""The (class, path) of each image of a part."""


@dataclass
class Folder:
    """A folder's content, as far as it is not a system's own."""

    path: Path
    images: list[Path] = field(default_factory=list)
    folders: list["Folder"] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    """Links to folders outside the data set."""
    others: dict[Path, str] = field(default_factory=dict)
    """What else is not read, and why."""

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


def _walked(path: Path, root: Path, depth: int = 0) -> Folder:
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
                found.folders.append(_walked(one, root, depth + 1))
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
        linked = [_walked(one, root, depth + 1) for one in found.links]
        found.folders = sorted([*found.folders, *linked], key=lambda folder: folder.path)
        found.links = []
    return found


def is_hidden(name: str) -> bool:
    """Return whether a name is of what systems keep beside images: `._x`, `__MACOSX`."""
    return name.startswith(".") or name.lower() in SYSTEM


def _is_within_or_above(path: Path, root: Path) -> bool:
    return path.is_relative_to(root) or root.is_relative_to(path)


@dataclass
class Layout:
    """The images by part, and what is left out.

    The parts are `train` and, where they are given, `val` and `test`.
    """

    root: Path
    parts: dict[str, Members] = field(default_factory=dict)
    reasons: dict[Path, str] = field(default_factory=dict)
    """Why each file or folder that is not read is left out."""
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


def _kinds(paths: list[Path]) -> str:
    kinds = Counter(map(kind_of, paths))
    told = [f"{count:,} {kind}" for kind, count in kinds.most_common(MAX_KINDS)]
    if rest := len(paths) - sum(count for _, count in kinds.most_common(MAX_KINDS)):
        told.append(f"{rest:,} others")
    return ", ".join(told)


NOT_READ = "not an image format that is read"
OTHER_FORMAT = "an image format that is not read"
HIDDEN = "hidden or system file"
EMPTY = "a class folder without images"
OUTSIDE = "in no class's folder"
LINKED = "a linked folder"
BESIDE = "beside the parts"
TELL: dict[str, Callable[[list[Path], str], str]] = {
    OTHER_FORMAT: lambda paths, first: (
        f"warning: {are(paths, 'image')} not read: {_kinds(paths)} ({first}). "
        f"{advice(path.suffix.lower() for path in paths)}"
    ),
    NOT_READ: lambda paths, first: (
        f"note: {are(paths, 'file')} not read: {_kinds(paths)} ({first}). Read are {allowed()}."
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
        f"note: {are(paths, 'linked folder')} left out ({first}): links to images are "
        "followed, those not."
    ),
    BESIDE: lambda paths, first: (
        f"note: {are(paths, 'folder')} left out: beside the parts ({first})."
    ),
    HIDDEN: lambda paths, first: f"note: {are(paths, 'hidden or system file')} left out ({first}).",
}
"""For each reason to leave something out, the line that tells of it."""


def are(what: list[Path], noun: str) -> str:
    """Return `1 image is`, `1,200 images are`."""
    return f"{counted(len(what), noun)} {'is' if len(what) == 1 else 'are'}"


def allowed() -> str:
    """Return the suffixes of the files that are read."""
    return ", ".join(sorted(SUFFIXES))


def part_of(name: str, names: re.Pattern[str] = PART) -> str:
    """Return the part that a folder's name means: `train`, `val`, `test`, or an empty string."""
    found = names.fullmatch(name)
    return "" if found is None else "train" if found[1] else "val" if found[2] else "test"


def key_of(name: str) -> str:
    """Return a name without its case, and without how spaces and accents in it are written."""
    return re.sub("[ _-]+", " ", unicodedata.normalize("NFC", name)).strip().casefold()


def layout_of(root: Path) -> Layout:
    """Find the images below a folder.

    Raises:
        DataError: there are none, or it cannot be told what is a part and what a class.
        OSError: a folder cannot be read.
    """
    found, whole = Layout(root), _walked(root, root.resolve())
    top = _innermost(whole)
    _tell_inner(whole, top, found)
    if parts := _parts(top, found):
        _take_parts(top, parts, found)
    elif _holds_parts_inside(top, found):
        _take_parts_inside(top, found)
    else:
        found.parts["train"] = _classes(top, found)
        _tell_parts_beside(found)
    _check_classes(found)
    return found


def _innermost(folder: Folder, *, is_part: bool = False) -> Folder:
    """Return the folder of the classes or parts, where it lies alone in others."""
    chain = [folder]
    while not chain[-1].images and len(chain[-1].filled) == 1:
        chain.append(chain[-1].filled[0])
    if chain[-1].images:  # one class alone
        return folder
    if not is_part and not _is_set(chain[-1]):
        for outer, inner in pairwise(chain):
            if part_of(inner.name):
                return outer
    return chain[-1]


def _is_set(folder: Folder) -> bool:
    """Return whether it holds a training part and others, with a folder for each class."""
    parts = [inner for inner in folder.filled if part_of(inner.name)]
    kinds = {part_of(part.name) for part in parts}
    return len(kinds) > 1 and "train" in kinds and not any(part.images for part in parts)


def _tell_inner(outer: Folder, inner: Folder, found: Layout) -> None:
    """Note that classes or parts are read from a folder that lies alone in another."""
    if inner is outer:
        return
    found.notes.append(
        f"note: {found.shown(inner)} is read, the one folder with images in {found.shown(outer)}."
    )
    while outer is not inner:
        _strays(outer, found)
        outer = outer.filled[0]


def _strays(folder: Folder, found: Layout) -> None:
    """Note what lies beside class folders."""
    found.reasons |= folder.others | dict.fromkeys(folder.images, OUTSIDE)
    for empty in folder.folders:
        if not empty.all_images:
            found.reasons |= {empty.path: EMPTY} | empty.not_read


# Parts that hold classes


def _parts(top: Folder, found: Layout) -> dict[str, Folder]:
    """Return the folders of the parts by name; none where all folders are classes."""
    like = [(part, one) for one in top.filled if (part := part_of(one.name, LIKE_A_PART))]
    named = [(part, one) for one in top.filled if (part := part_of(one.name))]
    if len(named) < len(like) == len(dict(like)) and _are_alike(dict(like)):
        told = [f"{found.shown(one)} is the {TITLES[part]} part" for part, one in like]
        found.notes.append(f"note: by its name and its classes, {', '.join(told)}.")
        return dict(like)
    parts = dict(reversed(named))
    others = [one for one in top.filled if not part_of(one.name)]
    place = repr(str(top.path))
    as_classes = f"If they are classes, put all class folders into {str(top.path / 'train')!r}."
    for part, one in named:
        if parts[part] is not one:
            names = f"{parts[part].name!r} and {one.name!r}"
            raise found.refuse(
                f"{place} has two folders for the {part} part, {names}. Keep one. {as_classes}"
            )
    if not named or (set(parts) == {"train"} and others and not parts["train"].filled):
        return {}  # a class of trains lies beside others, and holds images as they do
    names = " and ".join(repr(one.name) for _, one in named)
    if others and not _are_alike(parts):
        beside = printable(repr(others[0].name))
        raise found.refuse(
            f"{names} in {place} may be parts or classes beside {beside}. If parts, put all "
            f"training classes into 'train' and take {beside} away. {as_classes}"
        )
    if "train" not in parts:
        raise found.refuse(
            f"{place} has {names} but no 'train'. "
            f"Name the folder of the training part 'train'. {as_classes}"
        )
    return parts


def _are_alike(parts: dict[str, Folder]) -> bool:
    """Return whether there are a training part and others with no classes but those of training.

    They can then be nothing else than parts.
    """
    classes = {
        part: {key_of(one.name) for one in _innermost(folder, is_part=True).filled}
        for part, folder in parts.items()
    }
    return len(parts) > 1 and all(
        names and names <= classes.get("train", set()) for names in classes.values()
    )


def _take_parts(top: Folder, parts: dict[str, Folder], found: Layout) -> None:
    _strays(top, found)
    found.reasons |= {one.path: BESIDE for one in top.filled if one not in parts.values()}
    for part in TITLES:
        if part not in parts:
            continue
        folder = parts[part]
        inner = _innermost(folder, is_part=True)
        _tell_inner(folder, inner, found)
        if _is_set(inner):
            raise found.refuse(
                f"{found.shown(inner)} is the {TITLES[part]} part, and holds parts itself. "
                f"Put the parts beside one another in {str(top.path)!r}."
            )
        if inner.filled or part == "train":
            found.parts[part] = _classes(inner, found)
        else:  # images that nobody has sorted say nothing about how good a model is
            _strays(inner, found)
            found.notes.append(
                f"note: {found.shown(inner)} has no class folders: a {TITLES[part]} part is drawn "
                "from the training images."
            )


# Parts within each class


def _holds_parts_inside(top: Folder, found: Layout) -> bool:
    """Return whether each class folder holds the parts: `cat/train`, `cat/test`, `dog/train`.

    Raises:
        DataError: some do, or they are data sets of their own.
    """
    kinds = {one.path: {part_of(inner.name) for inner in one.filled} for one in top.filled}
    divided = [one for one in top.filled if len(kinds[one.path]) > 1 and "train" in kinds[one.path]]
    place = repr(str(top.path))
    if sets := [one for one in divided if _is_set(one)]:
        names = ", ".join(found.shown(one) for one in sets)
        raise found.refuse(
            f"{place} holds no parts itself, but these do: {names}. "
            f"Give one of them: --data folder:{shlex.quote(str(sets[0].path))}"
        )
    if not divided:
        return False
    for one in top.filled:
        if one.images or "" in kinds[one.path] or len(kinds[one.path]) < len(one.filled):
            raise found.refuse(
                f"{found.shown(divided[0])} in {place} is divided into parts, and "
                f"{found.shown(one)} is not, or not only into one of each. Divide every class "
                "alike, or none."
            )
    return True


def _take_parts_inside(top: Folder, found: Layout) -> None:
    _strays(top, found)
    for part in TITLES:
        for one in top.filled:
            for inner in one.filled:
                if part_of(inner.name) == part:
                    found.parts.setdefault(part, []).extend(
                        (one.name, path) for path in inner.all_images
                    )
            if part == "train":
                found.reasons |= one.not_read
    told = ", ".join(TITLES[part] for part in found.parts)
    found.notes.append(f"note: the parts are read from within each class folder: {told}.")


# Classes


def _classes(folder: Folder, found: Layout) -> Members:
    """Return the images of the classes in this folder."""
    _strays(folder, found)
    members = Members()
    for one in folder.folders:
        if not one.all_images:
            _refuse_unread_class(one, found)
            continue
        if not is_text(one.name):
            found.problems.append(
                f"the name of class folder {str(one.path)!r} is not UTF-8. Rename it."
            )
            continue
        found.reasons |= one.not_read
        members += [(one.name, path) for path in one.all_images]
    if not members:
        raise found.refuse(_no_classes(folder, found))
    _tell_nested(folder, found)
    if len(folder.filled) == 1:
        _hint_at_classes(folder.filled[0], found)
    return members


def _refuse_unread_class(folder: Folder, found: Layout) -> None:
    """Note as a problem that a class has images, but none that are read."""
    unread = [path for path, reason in folder.not_read.items() if reason == OTHER_FORMAT]
    if unread:
        found.problems.append(
            f"class folder {str(folder.path)!r} holds no images that are read, but "
            f"{_kinds(unread)}. {advice(path.suffix.lower() for path in unread)}"
        )


def _tell_nested(folder: Folder, found: Layout) -> None:
    """Note what suggests that the classes are one folder deeper."""
    filled = folder.filled
    inner = [{key_of(one.name) for one in each.filled} for each in filled]
    if len(filled) > 1 < len(inner[0]) and not any(
        each.images or names != inner[0] for each, names in zip(filled, inner, strict=True)
    ):
        shown = " and ".join(repr(printable(one.name)) for one in filled[0].filled[:2])
        told = (
            f"{found.shown(filled[0])}, {found.shown(filled[1])} and so on are taken for the "
            f"classes, but each holds the same folders, such as {shown}. If those are the classes, "
            "put the images of each into one folder."
        )
        if any(part_of(each.name, LIKE_A_PART) for each in filled):
            found.problems.append(f"{told} If they are parts, name them 'train' and 'test'.")
        else:
            found.notes.append(f"warning: {told}")
    names = {key_of(each.name) for each in filled}
    for each in filled:
        if not each.images and (same := [one for one in each.filled if key_of(one.name) in names]):
            told = (
                f"{found.shown(each)} lies beside classes, but holds folders named like them "
                f"(first: {found.shown(same[0])})"
            )
            if part_of(each.name):
                found.problems.append(f"{told}. If it is a part, take it out of there.")
            else:
                found.notes.append(f"warning: {told}. It is read as a class.")


def _hint_at_classes(only: Folder, found: Layout) -> None:
    """Note as problems what may be the other classes, where there is one alone."""
    empty = sorted(path for path, reason in found.reasons.items() if reason == EMPTY)
    if empty:
        found.problems.append(
            f"{len(empty):,} folder{'s hold' if len(empty) > 1 else ' holds'} no images (first: "
            f"{printable(found.name(empty[0]))}). Read are {allowed()}."
        )
    if len(only.filled) > 1:
        found.problems.append(
            f"{found.shown(only)} holds images and folders with images. If those folders are the "
            f"classes: --data folder:{shlex.quote(str(only.path))}"
        )


def _no_classes(folder: Folder, found: Layout) -> str:
    """Return why there are no classes in this folder, and what to do."""
    lines = [
        f"no class folders in {str(folder.path)!r}. Expected one sub-folder per class, "
        "holding its images."
    ]
    files = sorted(path.name for path in folder.others)
    for ends, remedy in (
        (TABLES, "is not read: put the images of each class into a folder of its name."),
        (ARCHIVES, "is not read: unpack it."),
    ):
        if names := [name for name in files if Path(name).suffix.lower() in ends]:
            lines.append(f"{printable(names[0])!r} {remedy}")
    parent = folder.path.absolute().parent
    if folder.images and folder.path == found.root and _has_class_folders(parent):
        lines.append(
            f"The folder above looks like a data set: --data folder:{shlex.quote(str(parent))}"
        )
    return " ".join(lines)


def _has_class_folders(folder: Path) -> bool:
    """Return whether two or more folders lie in it that hold images."""

    def holds_images(path: Path) -> bool:
        with suppress(OSError), os.scandir(path) as entries:
            return any(Path(one.name).suffix.lower() in SUFFIXES for one in islice(entries, NEAR))
        return False

    with suppress(OSError), os.scandir(folder) as entries:
        near = [Path(one.path) for one in islice(entries, NEAR) if one.name[0] != "."]
        return len(list(islice((one for one in near if holds_images(one)), 2))) > 1
    return False


def _tell_parts_beside(found: Layout) -> None:
    """Note that parts lie beside the folder that was given, if it is itself one."""
    given = found.root.absolute()
    if not part_of(given.name):
        return
    with suppress(OSError), os.scandir(given.parent) as entries:
        beside = [
            one.name
            for one in islice(entries, NEAR)
            if part_of(one.name) not in ("", part_of(given.name)) and one.is_dir()
        ]
        if beside:
            names = " and ".join(repr(name) for name in sorted(beside))
            found.notes.append(
                f"note: {names} beside {given.name!r} is not read. "
                f"To use parts: --data folder:{shlex.quote(str(given.parent))}"
            )


def _check_classes(found: Layout) -> None:
    """Note classes without training images, and names that may mean one class."""
    known = {name: key_of(name) for name, _ in found.parts["train"]}
    for part in ("val", "test"):
        places = dict(reversed(found.parts.get(part, [])))
        for name in sorted(places.keys() - known.keys()):
            same = [other for other, key in known.items() if key == key_of(name)]
            remedy = (
                f"{printable(same[0])!r} has some: give both one name."
                if same
                else "Each class needs training images."
            )
            found.problems.append(
                f"class {printable(name)!r} has {TITLES[part]} images (first: "
                f"{printable(found.name(places[name]))}) but no training images. {remedy}"
            )
    for key, count in Counter(known.values()).items():
        if count > 1:
            names = " and ".join(repr(printable(name)) for name in known if known[name] == key)
            found.notes.append(
                f"warning: {names} are read as different classes. If they are one, put their "
                "images into one folder."
            )
