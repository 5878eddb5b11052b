"""The forms of folders of images with masks: which file is an image, and which its mask.

Folders and files are interpreted by their names only. Each file has a key: its part, the folders
that neither mean a part nor masks or images, and its name without suffix. A mask belongs to the
image with the same key.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from trainables.datasets.names import key_of, part_of
from trainables.datasets.walk import Folder

_PART = "(?:train(?:ing)?|val(?:id(?:ation)?)?|test(?:ing)?)"
_IMAGES = "(?:images?|imgs?|jpegimages|photos|frames)"
_MASKS = (
    "(?:masks?|labels?|annot(?:ation)?s?|gt|ground ?truth|segmentations?(?: masks?)?|"
    "segmentationclass)"
)
ROLE = re.compile(
    rf"(?P<before>{_PART})? ?(?:(?P<images>{_IMAGES})|(?P<masks>{_MASKS})) ?(?P<after>{_PART})?"
)
"""Matches, normalised by `key_of`, folders of images or masks: `masks`, `train_labels`, `gt`."""
MASK_ENDING = re.compile(
    r"(?P<stem>.+)[_-](?:masks?|seg(?:mentation)?|labels?|annotation|gt|l)", re.IGNORECASE
)
"""Matches the names of masks without suffix: `x_mask`, `x_segmentation`, `x_L`."""
IMAGE_ENDING = re.compile(r"(?P<stem>.+)[_-](?:images?|img|sat)", re.IGNORECASE)
"""Matches the names of images without suffix that have an ending too: `x_sat`, `x_image`."""
ENOUGH = 0.5
"""The share of images that must have a mask, so that file names alone show which are masks."""
EXACT = {".png", ".bmp", ".gif", ".tif", ".tiff"}
"""The suffixes of formats without losses, which masks have."""

Key = tuple[str, ...]
"""The part of a file, its folders that are neither images nor masks, and its stem."""


@dataclass(frozen=True)
class PlacedFile:
    """An image file, and the meaning of the folders that contain it."""

    path: Path
    part: str
    """`train`, `val` or `test`; empty if no folder has the name of a part."""
    role: str
    """`images` or `masks`; empty if no folder has such a name."""
    inner: tuple[str, ...]
    """The names of the other folders, below the root."""
    stem: str
    """The name without suffix and, for masks beside images, without the ending such as `_mask`."""

    @property
    def place(self) -> Key:
        """The part, and the folders that are neither images nor masks."""
        return self.part, *self.inner

    @property
    def key(self) -> Key:
        """The key, which is the same for an image and its mask."""
        return *self.place, self.stem


@dataclass(frozen=True)
class Pairing:
    """The images and the masks of a folder."""

    form: str
    """A clause on how masks are recognised, for the remark on the task."""
    images: list[PlacedFile]
    masks: list[PlacedFile]
    unpaired: list[Path]
    """Image files that are neither."""

    @cached_property
    def mask_of(self) -> dict[Path, PlacedFile]:
        """The mask of each image that has one."""
        by_key = {mask.key: mask for mask in self.masks}
        for mask in self.masks:
            if match := MASK_ENDING.fullmatch(mask.stem):
                by_key.setdefault((*mask.place, match["stem"]), mask)
        pairs = {}
        for image in self.images:
            match = IMAGE_ENDING.fullmatch(image.stem)
            key = (*image.place, match["stem"]) if match and image.key not in by_key else image.key
            if key in by_key:
                pairs[image.path] = by_key[key]
        return pairs

    @cached_property
    def alone(self) -> list[PlacedFile]:
        """The masks that belong to no image."""
        used = {mask.path for mask in self.mask_of.values()}
        return [mask for mask in self.masks if mask.path not in used]

    @cached_property
    def doubled(self) -> list[PlacedFile]:
        """The images, and the masks, that have the key of an earlier one."""
        lists = (self.images, self.masks)
        return [file for files in lists for file in _repeated(files)]


def _repeated(files: Iterable[PlacedFile]) -> list[PlacedFile]:
    keys = set[Key]()
    repeated = []
    for file in files:
        if file.key in keys:
            repeated.append(file)
        keys.add(file.key)
    return repeated


def place_files(paths: Iterable[Path], root: Path) -> list[PlacedFile]:
    """Return image files with the meaning of the folders between them and the root."""
    meanings: dict[Path, tuple[str, str, tuple[str, ...]]] = {}
    files = []
    for path in paths:
        if path.parent not in meanings:
            meanings[path.parent] = _meaning_of(path.parent.relative_to(root).parts)
        part, role, inner = meanings[path.parent]
        files.append(PlacedFile(path, part, role, inner, path.stem))
    return files


def _meaning_of(names: Iterable[str]) -> tuple[str, str, tuple[str, ...]]:
    """Return the part, the role and the other names of the folders of a file."""
    part, role, inner = "", "", []
    for name in names:
        match = ROLE.fullmatch(key_of(name))
        own_part = part_of((match["before"] or match["after"] or "") if match else name)
        part = own_part or part
        if match:
            role = "images" if match["images"] else "masks"
        elif not own_part:
            inner.append(name)
    return part, role, tuple(inner)


def find_pairs(folder: Folder, root: Path) -> Pairing | None:
    """Find the images and masks of a folder by names; None if none of the forms fits."""
    files = place_files(folder.all_images, root)
    return _by_folders(files) or _by_endings(files) or _by_suffixes(files)


def _by_folders(files: list[PlacedFile]) -> Pairing | None:
    """Pair the files of `images/` and `masks/`, or of `train/` and `train_labels/`."""
    masks = [file for file in files if file.role == "masks"]
    if images := [file for file in files if file.role == "images"]:
        images, masks = _without_inner(images, masks)
    else:
        images = [file for file in files if file.part and not file.role]
    places = {file.place for file in images}
    if not any(mask.place in places for mask in masks):
        return None
    used = {file.path for file in (*images, *masks)}
    unpaired = [file.path for file in files if file.path not in used]
    form = f"{_folder_of(masks)} contains masks for the images in {_folder_of(images)}"
    return Pairing(form, images, masks, unpaired)


def _without_inner(
    images: list[PlacedFile], masks: list[PlacedFile]
) -> tuple[list[PlacedFile], list[PlacedFile]]:
    """Drop other folders if they only separate masks from images: `images/`, `gt/trimaps/`."""
    inner_of_images, inner_of_masks = ({file.inner for file in each} for each in (images, masks))
    if len(inner_of_images) == len(inner_of_masks) == 1 and inner_of_images != inner_of_masks:
        images, masks = ([replace(file, inner=()) for file in each] for each in (images, masks))
    return images, masks


def _folder_of(files: list[PlacedFile]) -> str:
    """Return the name of the folder that gives these files their role, or their part."""
    folders = min(file.path for file in files).parents
    pattern = ROLE if files[0].role else re.compile(_PART)
    names = (folder.name for folder in folders if pattern.fullmatch(key_of(folder.name)))
    return repr(next(names, folders[0].name))


def _by_endings(files: list[PlacedFile]) -> Pairing | None:
    """Pair `x.png` with `x_mask.png`, in the same folder or in two folders."""
    images, masks = [], []
    for file in files:
        match = MASK_ENDING.fullmatch(file.stem)
        if match:
            masks.append(replace(file, stem=match["stem"]))
        else:
            images.append(file)
    form = "names such as 'x_mask.png' are masks of 'x.png'"
    pairing = Pairing(form, *_without_inner(images, masks), [])
    return pairing if masks and len(pairing.mask_of) >= ENOUGH * len(images) else None


def _by_suffixes(files: list[PlacedFile]) -> Pairing | None:
    """Pair `x.jpg` with `x.png`: the most frequent suffixes of files with the same name."""
    suffixes: dict[Key, set[str]] = {}
    for file in files:
        suffixes.setdefault(file.key, set()).add(file.path.suffix.lower())
    pairs = Counter(frozenset(each) for each in suffixes.values() if len(each) == 2)
    if not pairs:
        return None
    pair = pairs.most_common(1)[0][0]
    exact = pair & EXACT
    if ".png" in pair:
        exact = frozenset({".png"})
    if len(exact) != 1:
        return None
    (suffix,) = exact
    masks = [file for file in files if file.path.suffix.lower() == suffix]
    images = [file for file in files if file.path.suffix.lower() != suffix]
    form = f"the {suffix} files have the names of images and are their masks"
    pairing = Pairing(form, images, masks, [])
    return pairing if len(pairing.mask_of) >= ENOUGH * len(images) else None
