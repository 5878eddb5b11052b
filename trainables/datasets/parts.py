"""The parts of a folder of images: those that hold the classes, or lie within each class.

What can be used in one way alone is used, and a line says how; what could be read in two ways is
refused.
"""

import os
import shlex
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path

from trainables.datasets.arrays import TITLES
from trainables.datasets.classes import NEAR, check_classes, classes_in, strays
from trainables.datasets.layout import BESIDE, Layout
from trainables.datasets.names import LIKE_A_PART, key_of, part_of
from trainables.datasets.walk import Folder, walked
from trainables.errors import printable


def layout_of(root: Path) -> Layout:
    """Find the images below a folder.

    Raises:
        DataError: there are none, or it cannot be told what is a part and what a class.
        OSError: a folder cannot be read.
    """
    found, whole = Layout(root), walked(root, root.resolve())
    top = _innermost(whole)
    _tell_inner(whole, top, found)
    if parts := _parts(top, found):
        _take_parts(top, parts, found)
    elif _holds_parts_inside(top, found):
        _take_parts_inside(top, found)
    else:
        found.parts["train"] = classes_in(top, found)
        _tell_parts_beside(found)
    check_classes(found)
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
        strays(outer, found)
        outer = outer.filled[0]


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
    strays(top, found)
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
            found.parts[part] = classes_in(inner, found)
        else:  # images that nobody has sorted say nothing about how good a model is
            strays(inner, found)
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
    strays(top, found)
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
