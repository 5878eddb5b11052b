"""The layout of a folder of photographs: its parts, and the small copy of each if there is one."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainables.datasets.arrays import TITLES
from trainables.datasets.layout import Layout
from trainables.datasets.names import part_of
from trainables.datasets.walk import Folder, walk
from trainables.errors import counted

FORMS = (
    "photographs, of which small copies are made, or the folders HR/ and LR/ with equal file names "
    "(also train/HR and train/LR)"
)
LARGE, SMALL = "hr", "lr"
"""The names, in lower case, of the folders with large images and with their small copies."""
ENDING = re.compile(r"[ _-]?x([2-4])$", re.IGNORECASE)
"""Matches the scale at the end of a small copy's name: `0001x2.png` belongs to `0001.png`."""
MATCHING = 0.5
"""A folder is recognised if at least this share of the large images has a small copy."""
NO_PARTNER = "an image without a partner in HR/ or LR/"
NOT_PAIRED = "not in HR/ or LR/, or not in the folder of a set"
OTHER_SCALE = "a small copy for another scale"


@dataclass
class PhotographLayout(Layout):
    """The large images by part, with class "", and the small copy of each, if it has one."""

    small: dict[Path, Path] = field(default_factory=dict)
    """The small copy of each image; empty if copies are made."""

    resizes = False

    @property
    def files(self) -> list[Path]:
        """The paths of all files that decide on the pixels."""
        return [*self.paths, *(self.small[path] for path in self.paths if self.small)]

    def leave_out(self, paths: list[Path], reason: str, title: str) -> None:
        """Leave out images, and add a warning, whose subject is `title`."""
        if paths:
            self.reasons |= dict.fromkeys(paths, reason)
            self.notes.append(f"warning: {title} left out: {reason} ({self.first(paths)}).")


def photograph_layout_of(root: Path, *, scale: int = 2, skip_bad: bool = False) -> PhotographLayout:
    """Find the photographs below a folder.

    Args:
        root: the folder.
        scale: the scale that decides if a photograph has small copies for several.
        skip_bad: True to leave out images without a partner; otherwise they are problems.

    Raises:
        DataError: there are no images, or a part is missing.
        OSError: a folder cannot be read.
    """
    layout, top = PhotographLayout(root), walk(root, root.resolve())
    layout.reasons |= top.not_read
    parts = _parts(top, layout)
    paired = {title: pair for title, part in parts.items() if (pair := _pair(part))}
    if paired and len(paired) < len(parts):
        title = next(title for title in parts if title not in paired)
        raise layout.refuse(
            f"the {TITLES[title]} set has no HR/ and LR/, but other sets do. Divide all sets in "
            "the same way."
        )
    for title, part in parts.items():
        if paired:
            layout.parts[title] = _partners(layout, *paired[title], scale, skip_bad=skip_bad)
        else:
            layout.parts[title] = [("", path) for path in part.all_images]
    read = {path for folder in parts.values() for path in _read_images(folder)}
    beside = [path for path in top.all_images if path not in read]
    layout.leave_out(beside, NOT_PAIRED, f"{counted(len(beside), 'image')}")
    if paired:
        layout.notes.append(
            "note: the task is super-resolution, because there are the folders HR/ and LR/ (--task "
            "overrides it)."
        )
    if not layout.parts["train"] and not layout.problems:
        raise layout.refuse(f"there are no images in {str(root)!r}. Expected {FORMS}.")
    return layout


def why_super_resolution(root: Path) -> str:
    """Return the reason to read a folder as photographs with small copies; empty if it is not one.

    A folder of photographs alone may be meant for anything, and is not recognised; nor is one in
    which HR and LR are two of several classes, or have images of different names.
    """
    try:
        top = walk(root, root.resolve())
    except OSError:  # the reader reports it
        return ""
    parts = [folder for folder in top.filled if part_of(folder.name)]
    folders = parts or [top]
    return "it has the folders HR/ and LR/" if all(map(_is_paired, folders)) else ""


def _is_paired(folder: Folder) -> bool:
    """True if a folder has HR and LR alone, and most of the images in both have the same names."""
    if (pair := _pair(folder)) is None or len(folder.filled) > 2:
        return False
    of_large, of_small = map(_by_name, pair)
    bases = {base for name in of_small for base in (name, ENDING.sub("", name))}
    return len(of_large.keys() & bases) >= MATCHING * len(of_large)


def _parts(top: Folder, layout: PhotographLayout) -> dict[str, Folder]:
    """Return the folder of each part, in the order of `TITLES`; only `train` if there are none.

    Raises:
        DataError: two folders are the same part, or there is none for training.
    """
    part_folders = [(part_of(folder.name), folder) for folder in top.filled]
    part_folders = [(title, folder) for title, folder in part_folders if title]
    parts = dict(part_folders)
    is_set = "train" in parts or not top.images or any(_pair(folder) for folder in parts.values())
    if not parts or not is_set:
        return {"train": top}
    for title, folder in part_folders:
        if parts[title] is not folder:
            raise layout.refuse(
                f"{layout.quote(folder)} and {layout.quote(parts[title])} are both the "
                f"{TITLES[title]} set. Keep only one of them."
            )
    if "train" not in parts:
        raise layout.refuse(
            f"{', '.join(map(layout.quote, parts.values()))} but no folder 'train' was found. Name "
            "the folder of the training set 'train'."
        )
    return {title: parts[title] for title in TITLES if title in parts}


def _pair(folder: Folder) -> tuple[Folder, Folder] | None:
    """Return the folders of large and of small images within a folder; None if it has not both."""
    inner_folders = {inner.name.lower(): inner for inner in folder.filled}
    is_pair = {LARGE, SMALL} <= inner_folders.keys()
    return (inner_folders[LARGE], inner_folders[SMALL]) if is_pair else None


def _read_images(part: Folder) -> list[Path]:
    """Return the images of a part that are read: all, or those in HR/ and LR/."""
    pair = _pair(part)
    return part.all_images if pair is None else [*pair[0].all_images, *pair[1].all_images]


def _partners(
    layout: PhotographLayout, large: Folder, small: Folder, scale: int, *, skip_bad: bool
) -> list[tuple[str, Path]]:
    """Find the small copy of each large image by its name without suffix, and note other images."""
    of_large, of_small = (_unique(layout, folder) for folder in (large, small))
    of_scales = _copies_of_scales(of_small)
    copies = {
        name: of_small.get(name) or _choose(of_scales.get(name, {}), scale) for name in of_large
    }
    found_copies = {of_large[name]: path for name, path in copies.items() if path is not None}
    layout.small |= found_copies
    used = set(found_copies.values())
    unused_paths = [path for path in of_small.values() if path not in used]
    of_other_scale = [
        path for path in unused_paths if copies.get(ENDING.sub("", _name(path, small))) is not None
    ]
    layout.leave_out(of_other_scale, OTHER_SCALE, counted(len(of_other_scale), "image"))
    alone = [path for name, path in of_large.items() if copies[name] is None]
    alone += [path for path in unused_paths if path not in of_other_scale]
    if alone and skip_bad:
        layout.leave_out(alone, NO_PARTNER, counted(len(alone), "image"))
    elif alone:
        layout.problems.append(
            f"{counted(len(alone), 'image')} in HR/ or LR/ {'has' if len(alone) == 1 else 'have'} "
            f"no partner of the same name ({layout.first(alone)}). Add the partners, or leave out "
            "such images with --skip-bad."
        )
    return [("", path) for path in sorted(found_copies)]


def _copies_of_scales(of_small: Mapping[str, Path]) -> dict[str, dict[int, Path]]:
    """Return the small copies whose names end in a scale, by the rest of the name and the scale."""
    copies: dict[str, dict[int, Path]] = {}
    for name, path in of_small.items():
        if match := ENDING.search(name):
            copies.setdefault(name[: match.start()], {})[int(match[1])] = path
    return copies


def _choose(copies: Mapping[int, Path], scale: int) -> Path | None:
    """Return the copy for this scale, else the only one; None if there is none."""
    return copies.get(scale, next(iter(copies.values())) if len(copies) == 1 else None)


def _unique(layout: PhotographLayout, folder: Folder) -> dict[str, Path]:
    """Return the images of a folder by name; several of one name are a problem."""
    counts = Counter(_name(path, folder) for path in folder.all_images)
    doubled = [path for path in folder.all_images if counts[_name(path, folder)] > 1]
    if doubled:
        layout.problems.append(
            f"{len(doubled)} images differ only in their suffixes ({layout.first(doubled)}), so "
            "that their partners are not clear. Keep one of each name."
        )
    return _by_name(folder)


def _by_name(folder: Folder) -> dict[str, Path]:
    """Return the images of a folder by their path in it, without suffix."""
    return {_name(path, folder): path for path in folder.all_images}


def _name(path: Path, folder: Folder) -> str:
    return path.relative_to(folder.path).with_suffix("").as_posix()
