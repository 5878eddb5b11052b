"""The parts (training, validation, test) of a folder of images.

Either the folder of each part contains the class folders, or each class folder contains the folders
of the parts. A folder that can be interpreted in only one way is accepted, and a note states the
interpretation; an ambiguous one is an error.
"""

import os
import shlex
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path

from trainables.datasets.arrays import TITLES
from trainables.datasets.layout import BESIDE, Layout
from trainables.datasets.names import LIKE_A_PART, key_of, part_of
from trainables.datasets.walk import Folder, walk
from trainables.errors import printable
from trainables.tasks.classification.classes import NEAR, check_classes, classes_in, note_strays


def layout_of(root: Path) -> Layout:
    """Find the images below a folder, and their parts and classes.

    Raises:
        DataError: there are no images, or it is ambiguous which folders are parts or classes.
        OSError: a folder cannot be read.
    """
    layout, whole = Layout(root), walk(root, root.resolve())
    top = _innermost(whole)
    _note_inner(whole, top, layout)
    if parts := _parts(top, layout):
        _take_parts(top, parts, layout)
    elif _holds_parts_inside(top, layout):
        _take_parts_inside(top, layout)
    else:
        layout.parts["train"] = classes_in(top, layout)
        _note_parts_beside(layout)
    check_classes(layout)
    return layout


def _innermost(folder: Folder, *, is_part: bool = False) -> Folder:
    """Descend through folders with only one sub-folder with images, to the classes or parts."""
    chain = [folder]
    while not chain[-1].images and len(chain[-1].filled) == 1:
        chain.append(chain[-1].filled[0])
    if chain[-1].images:  # this is the folder of a single class
        return folder
    if not is_part and not _is_set(chain[-1]):
        for outer, inner in pairwise(chain):
            if part_of(inner.name):
                return outer
    return chain[-1]


def _is_set(folder: Folder) -> bool:
    """True if a folder contains a training part and others, and no part directly has images."""
    parts = [inner for inner in folder.filled if part_of(inner.name)]
    kinds = {part_of(part.name) for part in parts}
    return len(kinds) > 1 and "train" in kinds and not any(part.images for part in parts)


def _note_inner(outer: Folder, inner: Folder, layout: Layout) -> None:
    """Add a note that classes or parts are read from the only sub-folder with images."""
    if inner is outer:
        return
    layout.notes.append(
        f"note: {layout.quote(inner)} is read, because it is the only folder with images in "
        f"{layout.quote(outer)}."
    )
    while outer is not inner:
        note_strays(outer, layout)
        outer = outer.filled[0]


# Parts that contain classes


def _parts(top: Folder, layout: Layout) -> dict[str, Folder]:
    """Return the folders of the parts by name; empty if all folders are classes."""
    by_similar_name = [
        (part, folder) for folder in top.filled if (part := part_of(folder.name, LIKE_A_PART))
    ]
    by_name = [(part, folder) for folder in top.filled if (part := part_of(folder.name))]
    if len(by_name) < len(by_similar_name) == len(dict(by_similar_name)) and _are_alike(
        dict(by_similar_name)
    ):
        texts = [
            f"{layout.quote(folder)} is the {TITLES[part]} set" for part, folder in by_similar_name
        ]
        layout.notes.append(f"note: judging by names and classes, {', '.join(texts)}.")
        return dict(by_similar_name)
    parts = dict(reversed(by_name))
    class_folders = [folder for folder in top.filled if not part_of(folder.name)]
    place = repr(str(top.path))
    as_classes = f"To read all folders as classes, put them into {str(top.path / 'train')!r}."
    for part, folder in by_name:
        if parts[part] is not folder:
            names = f"{parts[part].name!r} and {folder.name!r}"
            raise layout.refuse(
                f"{place} has two folders for the {TITLES[part]} set, {names}. "
                f"Keep only one of them. {as_classes}"
            )
    if not by_name or (set(parts) == {"train"} and class_folders and not parts["train"].filled):
        return {}  # "train" is a class of trains, next to other classes
    names = " and ".join(repr(folder.name) for _, folder in by_name)
    if class_folders and not _are_alike(parts):
        beside = printable(repr(class_folders[0].name))
        has, is_set = (
            ("has the name", "it is a set")
            if len(by_name) == 1
            else ("have names", "they are sets")
        )
        raise layout.refuse(
            f"{names} in {place} {has} of a training, validation or test set, but {beside} beside "
            f"looks like a class. If {is_set}, move {beside} and all other classes into 'train'. "
            f"{as_classes}"
        )
    if "train" not in parts:
        raise layout.refuse(
            f"{place} has {names} but no 'train'. "
            f"Name the folder of the training set 'train'. {as_classes}"
        )
    return parts


def _are_alike(parts: dict[str, Folder]) -> bool:
    """True if all these folders have class folders, and the training part has all these classes.

    Such folders can only be parts.
    """
    classes = {
        part: {
            key_of(class_folder.name) for class_folder in _innermost(folder, is_part=True).filled
        }
        for part, folder in parts.items()
    }
    return len(parts) > 1 and all(
        names and names <= classes.get("train", set()) for names in classes.values()
    )


def _take_parts(top: Folder, parts: dict[str, Folder], layout: Layout) -> None:
    note_strays(top, layout)
    layout.reasons |= {beside.path: BESIDE for beside in top.filled if beside not in parts.values()}
    for part in TITLES:
        if part not in parts:
            continue
        folder = parts[part]
        inner = _innermost(folder, is_part=True)
        _note_inner(folder, inner, layout)
        if _is_set(inner):
            raise layout.refuse(
                f"{layout.quote(inner)} is the {TITLES[part]} set, but it is itself divided into "
                "training, validation or test sets. Put the folders of all sets directly into "
                f"{str(top.path)!r}."
            )
        if inner.filled or part == "train":
            layout.parts[part] = classes_in(inner, layout)
        else:  # models cannot be evaluated on images without classes
            note_strays(inner, layout)
            layout.notes.append(
                f"note: {layout.quote(inner)} has no class folders, so a {TITLES[part]} set is "
                "drawn from the training images."
            )


# Parts within each class


def _holds_parts_inside(top: Folder, layout: Layout) -> bool:
    """True if each class folder contains the parts: `cat/train`, `cat/test`, `dog/train`.

    Raises:
        DataError: only some class folders contain the parts, or one is itself a data set.
    """
    kinds = {
        class_folder.path: {part_of(inner.name) for inner in class_folder.filled}
        for class_folder in top.filled
    }
    divided = [
        class_folder
        for class_folder in top.filled
        if len(kinds[class_folder.path]) > 1 and "train" in kinds[class_folder.path]
    ]
    place = repr(str(top.path))
    if sets := [class_folder for class_folder in divided if _is_set(class_folder)]:
        names = ", ".join(layout.quote(class_folder) for class_folder in sets)
        some, choice = (
            ("this folder in it is", "Use it")
            if len(sets) == 1
            else ("these folders in it are", "Choose one of them")
        )
        raise layout.refuse(
            f"{place} is not divided into training and test sets, but {some}: {names}. "
            f"{choice}: --data folder:{shlex.quote(str(sets[0].path))}"
        )
    if not divided:
        return False
    for class_folder in top.filled:
        if (
            class_folder.images
            or "" in kinds[class_folder.path]
            or len(kinds[class_folder.path]) < len(class_folder.filled)
        ):
            raise layout.refuse(
                f"{layout.quote(divided[0])} in {place} is divided into training, validation or "
                f"test images, but {layout.quote(class_folder)} is not, or also has other images. "
                "Divide all classes in the same way, or divide none of them."
            )
    return True


def _take_parts_inside(top: Folder, layout: Layout) -> None:
    note_strays(top, layout)
    for part in TITLES:
        for class_folder in top.filled:
            for inner in class_folder.filled:
                if part_of(inner.name) == part:
                    layout.parts.setdefault(part, []).extend(
                        (class_folder.name, path) for path in inner.all_images
                    )
            if part == "train":
                layout.reasons |= class_folder.not_read
    titles = ", ".join(TITLES[part] for part in layout.parts)
    layout.notes.append(f"note: each class folder is divided into these sets: {titles}.")


def _note_parts_beside(layout: Layout) -> None:
    """Add a note if the root is itself a part, and other parts are next to it."""
    root = layout.root.absolute()
    if not part_of(root.name):
        return
    with suppress(OSError), os.scandir(root.parent) as entries:
        beside = [
            entry.name
            for entry in islice(entries, NEAR)
            if part_of(entry.name) not in ("", part_of(root.name)) and entry.is_dir()
        ]
        if beside:
            names = " and ".join(repr(name) for name in sorted(beside))
            layout.notes.append(
                f"note: only {root.name!r} is read, not {names} next to it. "
                f"To read all of them, pass --data folder:{shlex.quote(str(root.parent))}"
            )
