"""The layout of a folder of photographs: its parts, and the small copy of each if there is one."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from trainables.datasets.arrays import TITLES
from trainables.datasets.layout import BESIDE, Layout
from trainables.datasets.names import part_of
from trainables.datasets.walk import Folder, walk
from trainables.errors import counted, printable

FORMS = (
    "photographs, of which small copies are made, or the folders HR/ and LR/ with equal file names "
    "(also train/HR and train/LR)"
)
LARGE, SMALL = "hr", "lr"
"""The names, in lower case, of the folders with large images and with their small copies."""
ENDING = re.compile(r"[ _-]?x[2-4]$", re.IGNORECASE)
"""Matches the scale at the end of a small copy's name: `0001x2.png` belongs to `0001.png`."""
FIRST = 3
"""The number of files that a message names."""
NO_PARTNER = "an image without a partner in HR/ or LR/"


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

    def first(self, paths: Iterable[Path]) -> str:
        """Name the first of these files for a message."""
        names = [printable(self.name(path)) for path in sorted(paths)[:FIRST]]
        return f"first: {', '.join(names)}"


def photograph_layout_of(root: Path, *, skip_bad: bool = False) -> PhotographLayout:
    """Find the photographs below a folder.

    Args:
        root: the folder.
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
            layout.parts[title] = _partners(layout, *paired[title], skip_bad=skip_bad)
        else:
            layout.parts[title] = [("", path) for path in part.all_images]
    if not layout.parts["train"] and not layout.problems:
        raise layout.refuse(f"there are no images in {str(root)!r}. Expected {FORMS}.")
    return layout


def why_super_resolution(root: Path) -> str:
    """Return the reason to read a folder as photographs with small copies; empty if it is not one.

    A folder of photographs alone may be meant for anything, and is not recognised.
    """
    try:
        top = walk(root, root.resolve())
    except OSError:  # the reader reports it
        return ""
    folders = [top, *(folder for folder in top.filled if part_of(folder.name))]
    return "it has the folders HR/ and LR/" if any(map(_pair, folders)) else ""


def _parts(top: Folder, layout: PhotographLayout) -> dict[str, Folder]:
    """Return the folder of each part, in the order of `TITLES`; only `train` if there are none.

    Raises:
        DataError: two folders are the same part, or there is none for training.
    """
    folders_of_parts = [
        (part_of(folder.name), folder) for folder in top.filled if part_of(folder.name)
    ]
    if not folders_of_parts or top.images:
        return {"train": top}
    parts = dict(folders_of_parts)
    for title, folder in folders_of_parts:
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
    layout.reasons |= {beside.path: BESIDE for beside in top.filled if beside not in parts.values()}
    return {title: parts[title] for title in TITLES if title in parts}


def _pair(folder: Folder) -> tuple[Folder, Folder] | None:
    """Return the folders of large and of small images within a folder; None if it has not both."""
    inner_folders = {inner.name.lower(): inner for inner in folder.filled}
    return (
        (inner_folders[LARGE], inner_folders[SMALL])
        if {LARGE, SMALL} <= inner_folders.keys()
        else None
    )


def _partners(
    layout: PhotographLayout, large: Folder, small: Folder, *, skip_bad: bool
) -> list[tuple[str, Path]]:
    """Find the small copy of each large image, by its name without suffix, and note the others."""
    of_small = {
        ENDING.sub("", key) if ENDING.sub("", key) in _by_key(large) else key: path
        for key, path in _by_key(small).items()
    }
    of_large = _by_key(large)
    layout.small |= {path: of_small[key] for key, path in of_large.items() if key in of_small}
    alone = [path for key, path in of_large.items() if key not in of_small]
    alone += [path for key, path in of_small.items() if key not in of_large]
    if alone and skip_bad:
        layout.reasons |= dict.fromkeys(alone, NO_PARTNER)
    elif alone:
        layout.problems.append(
            f"{counted(len(alone), 'image')} in HR/ or LR/ {'has' if len(alone) == 1 else 'have'} "
            f"no partner of the same name ({layout.first(alone)}). Add the partners, or leave out "
            "such images with --skip-bad."
        )
    return [("", path) for key, path in sorted(of_large.items()) if key in of_small]


def _by_key(folder: Folder) -> dict[str, Path]:
    """Return the images of a folder by their path in it, without suffix."""
    return {
        path.relative_to(folder.path).with_suffix("").as_posix(): path for path in folder.all_images
    }
