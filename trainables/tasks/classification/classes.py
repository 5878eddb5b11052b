"""The classes of a folder of images, and warnings about folders that may not be classes."""

import os
import shlex
from collections import Counter
from contextlib import suppress
from itertools import islice
from pathlib import Path

from trainables.datasets.arrays import TITLES
from trainables.datasets.images import SUFFIXES, advice
from trainables.datasets.layout import EMPTY, OUTSIDE, Layout, Members, kinds, readable_suffixes
from trainables.datasets.names import LIKE_A_PART, NO_CLASS, is_hidden, key_of, part_of
from trainables.datasets.walk import OTHER_FORMAT, Folder
from trainables.errors import is_text, printable
from trainables.tasks import TASKS

TEXTS = {"", ".md", ".txt"}
TABLES, ARCHIVES = (
    {".csv", ".tsv", ".xlsx", ".json"},
    {".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"},
)
IMAGES = frozenset({"images", "jpegimages", "imgs", "img"})
ANNOTATIONS = frozenset({"annotations", "labels", "masks", "segmentationclass"})
"""The usual names of folders with images, and of those with their boxes or masks."""
NEAR = 1000
"""The maximum number of entries that are inspected in a folder outside the data set."""


def classes_in(folder: Folder, layout: Layout) -> Members:
    """Collect the images of the classes in this folder, and add problems to the layout.

    Raises:
        DataError: there are no classes with images.
    """
    note_strays(folder, layout)
    members = Members()
    for class_folder in folder.folders:
        if not class_folder.all_images:
            _refuse_unread_class(class_folder, layout)
            continue
        if not is_text(class_folder.name):
            layout.problems.append(
                f"the name of class folder {str(class_folder.path)!r} is not UTF-8. Rename it."
            )
            continue
        layout.reasons |= class_folder.not_read
        members += [(class_folder.name, path) for path in class_folder.all_images]
    if not members:
        raise layout.refuse(_no_classes(folder, layout))
    hints = len(layout.notes), len(layout.problems)
    _note_nested_classes(folder, layout)
    if (len(layout.notes), len(layout.problems)) == hints:
        _note_deep_class(folder, layout)
    if len(folder.filled) == 1:
        _hint_at_classes(folder.filled[0], layout)
    return members


def _refuse_unread_class(folder: Folder, layout: Layout) -> None:
    """Add a problem if a class folder has only images of formats that are not read."""
    unread = [path for path, reason in folder.not_read.items() if reason == OTHER_FORMAT]
    if unread:
        layout.problems.append(
            f"class folder {str(folder.path)!r} contains only images of unsupported formats: "
            f"{kinds(unread)}. {advice(path.suffix.lower() for path in unread)}"
        )


def _note_nested_classes(folder: Folder, layout: Layout) -> None:
    """Add a warning, or a problem, if the classes seem to be one folder deeper."""
    filled = folder.filled
    inner = [{key_of(inner_folder.name) for inner_folder in each.filled} for each in filled]
    if len(filled) > 1 < len(inner[0]) and not any(
        each.images or names != inner[0] for each, names in zip(filled, inner, strict=True)
    ):
        examples = " and ".join(
            repr(printable(inner_folder.name)) for inner_folder in filled[0].filled[:2]
        )
        warning = (
            f"{layout.quote(filled[0])}, {layout.quote(filled[1])} and so on are read as the "
            f"classes, but each contains the same folders, for example {examples}. If those are "
            "the classes, put all images of a class into one folder."
        )
        if any(part_of(each.name, LIKE_A_PART) for each in filled):
            layout.problems.append(
                f"{warning} If the outer folders are a training and a test set, name them 'train' "
                "and 'test'."
            )
        else:
            layout.notes.append(f"warning: {warning}")
    names = {key_of(each.name) for each in filled}
    for each in filled:
        if not each.images and (
            same := [
                inner_folder for inner_folder in each.filled if key_of(inner_folder.name) in names
            ]
        ):
            warning = (
                f"{layout.quote(each)} is next to the classes, but contains folders with the same "
                f"names (first: {layout.quote(same[0])})"
            )
            if part_of(each.name):
                layout.problems.append(
                    f"{warning}. If it is a training, validation or test set, move it out of there."
                )
            else:
                layout.notes.append(f"warning: {warning}. It is read as a class.")


def _note_deep_class(folder: Folder, layout: Layout) -> None:
    """Add a warning if the images of most classes are all in several folders of the class."""
    deep = [each for each in folder.filled if not each.images and len(each.filled) > 1]
    if len(deep) > len(folder.filled) / 2:
        first, inner = deep[0], deep[0].filled
        layout.notes.append(
            f"warning: {layout.quote(first)} is read as one class, but its images are in "
            f"{len(inner):,} folders (first: {layout.quote(inner[0])}), like those of most "
            "classes. If these folders are the classes, pass --data "
            f"folder:{shlex.quote(str(first.path))}."
        )


def _hint_at_classes(only: Folder, layout: Layout) -> None:
    """Add problems about folders that may be further classes, if only one was found."""
    empty = sorted(path for path, reason in layout.reasons.items() if reason == EMPTY)
    if empty:
        layout.problems.append(
            f"{len(empty):,} folder{'s contain' if len(empty) > 1 else ' contains'} no images "
            f"(first: {printable(layout.name(empty[0]))}). "
            f"Supported formats: {readable_suffixes()}."
        )
    if len(only.filled) > 1:
        layout.problems.append(
            f"{layout.quote(only)} contains both images and folders with images. If those folders "
            f"are the classes, pass --data folder:{shlex.quote(str(only.path))}"
        )


def _no_classes(folder: Folder, layout: Layout) -> str:
    """Build the message that there are no classes in this folder, with hints."""
    lines = [
        f"there are no class folders in {str(folder.path)!r}. Expected one sub-folder per class "
        "with its images."
    ]
    files = sorted(path.name for path in folder.unread)
    for ends, remedy in (
        (TABLES, "is not read: put the images of each class into a folder with its name."),
        (ARCHIVES, "is not read: unpack it."),
    ):
        if names := [name for name in files if Path(name).suffix.lower() in ends]:
            lines.append(f"{printable(names[0])!r} {remedy}")
    parent = folder.path.absolute().parent
    if folder.path == layout.root and (beside := _annotations_beside(folder.path)):
        lines.append(
            f"{printable(beside)!r} is next to it: for images with boxes or masks, pass the folder "
            f"of both: --data folder:{shlex.quote(str(parent))}"
        )
    elif folder.images and folder.path == layout.root and _has_class_folders(parent):
        lines.append(
            "The parent folder looks like a data set: pass --data "
            f"folder:{shlex.quote(str(parent))}"
        )
    elif folder.images and folder.path == layout.root:
        lines += [
            f"To {task.bare_images}, use --task {task.name}."
            for task in TASKS.values()
            if task.bare_images
        ]
    return " ".join(lines)


def _annotations_beside(folder: Path) -> str:
    """Return the folder that goes with images or annotations in a folder; empty if there is none.

    Only names are compared: those that tools give to such folders.
    """
    own = folder.absolute()
    partners = {ANNOTATIONS: IMAGES, IMAGES: ANNOTATIONS}
    for names, expected in partners.items():
        if own.name.lower() in names:
            with suppress(OSError), os.scandir(own.parent) as entries:
                near = [entry.name for entry in islice(entries, NEAR) if entry.is_dir()]
                return next((name for name in sorted(near) if name.lower() in expected), "")
    return ""


def _has_class_folders(folder: Path) -> bool:
    """True if a folder looks like a data set: several folders of images, and no unrelated files.

    Files other than tables and texts suggest that it is somebody's working folder.
    """

    def holds_images(path: Path) -> bool:
        with suppress(OSError), os.scandir(path) as entries:
            return any(
                Path(entry.name).suffix.lower() in SUFFIXES for entry in islice(entries, NEAR)
            )
        return False

    with suppress(OSError), os.scandir(folder) as entries:
        near = [Path(entry.path) for entry in islice(entries, NEAR) if not is_hidden(entry.name)]
        classes = [path for path in near if path.is_dir()]
        files = {path.suffix.lower() for path in near if path not in classes}
        return len(classes) > 1 and files <= {*TABLES, *TEXTS} and all(map(holds_images, classes))
    return False


def note_strays(folder: Folder, layout: Layout) -> None:
    """Record files next to class folders, and empty class folders, as left out."""
    layout.reasons |= folder.unread | dict.fromkeys(folder.images, OUTSIDE)
    for empty in folder.folders:
        if not empty.all_images:
            layout.reasons |= {empty.path: EMPTY} | empty.not_read


def check_classes(layout: Layout) -> None:
    """Report problems for classes without training images, and warnings for doubtful names.

    A name is doubtful if it is unlikely for a class, or too similar to another class's name.
    """
    keys = {name: key_of(name) for name, _ in layout.parts["train"]}
    for part in ("val", "test"):
        places = dict(reversed(layout.parts.get(part, [])))
        for name in sorted(places.keys() - keys.keys()):
            same = [training_name for training_name, key in keys.items() if key == key_of(name)]
            remedy = (
                f"{printable(same[0])!r} has some: use the same name for both."
                if same
                else "Each class needs training images."
            )
            layout.problems.append(
                f"class {printable(name)!r} has {TITLES[part]} images (first: "
                f"{printable(layout.name(places[name]))}) but no training images. {remedy}"
            )
    for name in sorted(keys):
        if NO_CLASS.fullmatch(keys[name]):
            layout.notes.append(
                f"warning: {printable(name)!r} is read as a class. If its images are not sorted "
                "yet, move it out of the folder."
            )
    for key, count in Counter(keys.values()).items():
        if count > 1:
            names = " and ".join(repr(printable(name)) for name in keys if keys[name] == key)
            layout.notes.append(
                f"warning: {names} are read as different classes. If they are the same class, put "
                "their images into one folder."
            )
