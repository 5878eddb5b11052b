"""The classes of a folder of images, and what suggests that they are meant in another way."""

import os
import shlex
from collections import Counter
from contextlib import suppress
from itertools import islice
from pathlib import Path

from trainables.datasets.arrays import TITLES
from trainables.datasets.images import SUFFIXES, advice
from trainables.datasets.layout import EMPTY, OUTSIDE, Layout, Members, allowed, kinds
from trainables.datasets.names import LIKE_A_PART, NO_CLASS, is_hidden, key_of, part_of
from trainables.datasets.walk import OTHER_FORMAT, Folder
from trainables.errors import is_text, printable

TEXTS = {"", ".md", ".txt"}
TABLES, ARCHIVES = (
    {".csv", ".tsv", ".xlsx", ".json"},
    {".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"},
)
NEAR = 1000
"""The largest number of entries that are looked at in a folder outside the data set."""


def classes_in(folder: Folder, found: Layout) -> Members:
    """Return the images of the classes in this folder."""
    strays(folder, found)
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
            f"{kinds(unread)}. {advice(path.suffix.lower() for path in unread)}"
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
    """Return whether there are folders of images in it and nothing else, as in a data set.

    Beside them may lie tables and texts; a folder with others is where somebody works.
    """

    def holds_images(path: Path) -> bool:
        with suppress(OSError), os.scandir(path) as entries:
            return any(Path(one.name).suffix.lower() in SUFFIXES for one in islice(entries, NEAR))
        return False

    with suppress(OSError), os.scandir(folder) as entries:
        near = [Path(one.path) for one in islice(entries, NEAR) if not is_hidden(one.name)]
        classes = [path for path in near if path.is_dir()]
        files = {path.suffix.lower() for path in near if path not in classes}
        return len(classes) > 1 and files <= {*TABLES, *TEXTS} and all(map(holds_images, classes))
    return False


def strays(folder: Folder, found: Layout) -> None:
    """Note what lies beside class folders."""
    found.reasons |= folder.others | dict.fromkeys(folder.images, OUTSIDE)
    for empty in folder.folders:
        if not empty.all_images:
            found.reasons |= {empty.path: EMPTY} | empty.not_read


def check_classes(found: Layout) -> None:
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
    for name in sorted(known):
        if NO_CLASS.fullmatch(known[name]):
            found.notes.append(
                f"warning: {printable(name)!r} is read as a class. If its images are not sorted "
                "yet, take it out of the folder."
            )
    for key, count in Counter(known.values()).items():
        if count > 1:
            names = " and ".join(repr(printable(name)) for name in known if known[name] == key)
            found.notes.append(
                f"warning: {names} are read as different classes. If they are one, put their "
                "images into one folder."
            )
