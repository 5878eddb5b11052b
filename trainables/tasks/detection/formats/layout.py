"""The layout of a folder of images with boxes: its parts, and the boxes of each image.

`coco`, `voc` and `yolo` fill a layout in; this module has the steps that they share.
"""

import os.path
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

from trainables.datasets.arrays import TITLES
from trainables.datasets.layout import Layout, are
from trainables.datasets.names import key_of, part_of
from trainables.datasets.pairs import PlacedFile, place_files
from trainables.errors import DataError, counted, printable
from trainables.tasks.detection.values import MAX_CLASSES, RawBoxes

FORMS = (
    "COCO annotations (a .json file), Pascal VOC annotations (.xml files), or the folders images/ "
    "and labels/ of YOLO with data.yaml"
)
YEAR = re.compile(r"[ _-]?\d{4}$")
"""Matches the year at the end of a folder's name such as `train2017`."""
DARKNET_FOLDER = re.compile(r"obj[ _-](?P<part>.+)[ _-]data", re.IGNORECASE)
"""Matches the folders of a part in Darknet's layout, which CVAT exports: `obj_train_data`."""
MANY_FILES = 20
"""The maximum number of annotation files that are opened to recognise a folder."""
NO_ANNOTATIONS = "an image without annotations"
NO_IMAGE = "annotations without an image"
NOT_IN_A_SET = "in none of the lists of the sets"
BESIDE_IMAGES = "not in the folder of images"

Content = TypeVar("Content")


class BadAnnotation(DataError):
    """An annotation file that cannot be used."""

    def __init__(self, problem: tuple[str, str], detail: str) -> None:
        """Describe the file.

        Args:
            problem: the verb and object, for one file and for several: `("has ...", "have ...")`.
            detail: a clause on the first of the file's mistakes.
        """
        super().__init__(f"{problem[0]}: {detail}")
        self.problem, self.detail = problem, detail


UNREADABLE = ("cannot be read", "cannot be read")


@dataclass
class BoxLayout(Layout):
    """The images by part, with class "", and the boxes of each."""

    skip_bad: bool = False
    """True to leave out images without usable annotations; otherwise they are problems."""
    raw_boxes: dict[Path, RawBoxes] = field(default_factory=dict)
    """The boxes of each image as its annotations have them, in pixels of the upright image."""
    are_shares: bool = False
    """True if coordinates are divided by the width and height of the image, as YOLO has them."""
    classes: tuple[str, ...] = ()
    form: str = ""
    """The form of the annotations, for messages."""
    sources: dict[Path, Path] = field(default_factory=dict)
    """The annotation file of each image that has one of its own."""
    stated_sizes: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """The (width, height) that the annotations state for an image."""
    annotation_files: list[Path] = field(default_factory=list)
    """The files that decide on boxes, classes and parts."""

    resizes = True

    @property
    def files(self) -> list[Path]:
        """The paths of all files that decide on pixels and boxes."""
        return [*self.paths, *self.annotation_files]

    def use(self, files: Collection[Path]) -> None:
        """Record files as read, which the walk through the folder did not read."""
        self.annotation_files += files
        for path in files:
            self.reasons.pop(path, None)

    def add_task(self, clause: str) -> None:
        """Add a note on the reason for the task, which is a clause."""
        self.notes.append(f"note: the task is detection, because {clause} (--task overrides it).")

    def leave_out(self, paths: Collection[Path], reason: str) -> None:
        """Leave out images with a note."""
        if paths:
            self.reasons |= dict.fromkeys(paths, reason)
            self.notes.append(
                f"note: {are(list(paths), 'image')} left out, being {reason} ({self.first(paths)})."
            )

    def set_aside(
        self, paths: Collection[Path], reason: str, nouns: tuple[str, str], lack: str
    ) -> None:
        """Report files that lack something as a problem; leave them out with `skip_bad`.

        Args:
            paths: the files.
            reason: the reason for the list of files that are left out.
            nouns: the noun for one file, and for several: `("entry", "entries")`.
            lack: the object that is missing, such as `no image`.
        """
        if not paths:
            return
        is_single = len(paths) == 1
        subject = f"{counted(len(paths), *nouns)} {'has' if is_single else 'have'} {lack}"
        if self.skip_bad:
            self.reasons |= dict.fromkeys(paths, reason)
            self.notes.append(
                f"warning: {subject} and {'is' if is_single else 'are'} left out "
                f"({self.first(paths)})."
            )
        else:
            self.problems.append(
                f"{subject} ({self.first(paths)}). Add what is missing, or leave "
                f"{'it' if is_single else 'them'} out with --skip-bad."
            )

    def refuse_doubled(self, images: Iterable[PlacedFile]) -> None:
        """Report images with the name of an earlier one, whose annotations are not clear."""
        keys, doubled = set[tuple[str, ...]](), []
        for image in images:
            if image.key in keys:
                doubled.append(image.path)
            keys.add(image.key)
        if doubled:
            self.problems.append(
                f"{counted(len(doubled), 'image has', 'images have')} the name of another one "
                f"({self.first(doubled)}), so it is unclear which annotations belong to which "
                "image. Rename or remove them."
            )

    def name_classes(self, classes: tuple[str, ...], source: str) -> None:
        """Set the classes, which are in `source`.

        Raises:
            DataError: there are too many.
        """
        self.check_count(len(classes), source)
        self.classes = classes

    def check_count(self, count: int, source: str) -> None:
        """Check the number of classes, which are in `source`.

        Raises:
            DataError: there are too many.
        """
        if count > MAX_CLASSES:
            raise self.refuse(
                f"there are {count:,} classes in {source}; at most {MAX_CLASSES:,} are allowed."
            )


def place(paths: Iterable[Path], root: Path) -> list[PlacedFile]:
    """Return files with the meaning of their folders; `train2017` means `train`."""
    return [_with_part(file) for file in place_files(paths, root)]


def _with_part(file: PlacedFile) -> PlacedFile:
    parts = [part_of_folder(name) for name in file.inner]
    if file.part or not any(parts):
        return file
    inner = tuple(name for name, part in zip(file.inner, parts, strict=True) if not part)
    return replace(file, part=next(filter(None, parts)), inner=inner)


def part_of_folder(name: str) -> str:
    """Return the part of `train`, `train2017` or `obj_train_data`; empty for other names."""
    match = DARKNET_FOLDER.fullmatch(name)
    return part_of(YEAR.sub("", name) if match is None else match["part"])


def endings(*names: str) -> list[PurePosixPath]:
    """Return all endings of a path in annotations, the longest first.

    The path may be that of another machine, or begin with `..`, but ends with folders of this one.
    """
    parts = [
        part
        for name in names
        for part in PurePosixPath(name.replace("\\", "/")).parts
        if part not in ("/", "..")
    ]
    return [PurePosixPath(*parts[start:]) for start in range(len(parts))] or [PurePosixPath()]


class ImageMatcher:
    """Finds the image files that annotations or lists name, often with paths of other machines."""

    def __init__(self, images: Iterable[PlacedFile]) -> None:
        self.placed = {image.path: image for image in images}
        self.by_name: dict[str, list[Path]] = {}
        for path in self.placed:
            self.by_name.setdefault(path.name, []).append(path)
        self.folder_names = {path.parent.name for path in self.placed}

    def match(self, file: str, folders: Sequence[Path], part: str = "") -> list[Path]:
        """Return the images that an entry may mean: those with the longest ending of its path.

        Args:
            file: the path in the entry.
            folders: an image at this path below one of these folders is preferred.
            part: so is an image of this part.
        """
        for folder in folders:
            path = Path(os.path.normpath(folder / file.replace("\\", "/")))
            if path in self.placed:
                return [path]
        ignored_part = ""
        for ending in endings(file):
            allowed = {"", ignored_part} if ignored_part else {"", *TITLES}
            paths = [
                path
                for path in self.by_name.get(ending.name, [])
                if f"/{path.as_posix()}".endswith(f"/{ending}")
                if self.placed[path].part in allowed
            ]
            if paths:
                near = [path for path in paths if path in [each / ending for each in folders]]
                of_part = [path for path in paths if part and self.placed[path].part == part]
                return near or of_part or paths
            # The image is missing from a folder that exists. An image of this name in another
            # folder has other objects.
            if len(ending.parts) == 2 and ending.parts[0] in self.folder_names:
                return []
            if ending.parts:
                ignored_part = part_of_folder(ending.parts[0]) or ignored_part
        return []


def are_class_folders(images: Collection[PlacedFile], classes: Iterable[str]) -> bool:
    """True if most images are in two or more folders with the names of annotated classes.

    The folders are then meant as classes, and the boxes are only an addition.
    """
    keys = {key_of(name) for name in classes} - {""}
    counts = Counter(
        next((key for key in map(key_of, image.inner) if key in keys), "") for image in images
    )
    outside = counts.pop("", 0)
    return len(counts) > 1 and counts.total() > outside


def in_turns(paths: Iterable[Path]) -> list[Path]:
    """Sort files so that the first of each folder precede the second ones."""
    turns, ranked = Counter[Path](), []
    for path in sorted(paths):
        ranked.append((turns[path.parent], path))
        turns[path.parent] += 1
    return [path for _, path in sorted(ranked)]


def match_by_key(images: list[PlacedFile], files: list[PlacedFile]) -> dict[Path, Path]:
    """Return the annotation file of each image that has one with the same key."""
    by_key = {file.key: file.path for file in files}
    return {image.path: by_key[image.key] for image in images if image.key in by_key}


def select_images(
    layout: BoxLayout, images: list[PlacedFile], annotated: Collection[Path]
) -> list[PlacedFile]:
    """Return the images that are meant for training.

    If there is a folder of images, those outside it and without annotations are left out; so are
    those in folders of masks, such as `SegmentationClass`.
    """
    if not any(image.role == "images" for image in images):
        return images
    selected = [
        image
        for image in images
        if image.role == "images" or (not image.role and image.path in annotated)
    ]
    used = {image.path for image in selected}
    layout.leave_out([image.path for image in images if image.path not in used], BESIDE_IMAGES)
    return selected


def without_unannotated_parts(
    layout: BoxLayout, images: list[PlacedFile], annotated: Collection[Path]
) -> list[PlacedFile]:
    """Leave out a validation or test set in which no image has annotations."""
    for part in ("val", "test"):
        paths = [image.path for image in images if image.part == part]
        if paths and not any(path in annotated for path in paths):
            layout.reasons |= dict.fromkeys(paths, NO_ANNOTATIONS)
            layout.notes.append(
                f"note: the {TITLES[part]} set has no annotations. {are(paths, 'image')} left out, "
                "and another set is drawn from the training images."
            )
            images = [image for image in images if image.part != part]
    return images


def read_each(
    layout: BoxLayout, matches: Mapping[Path, Path], read: Callable[[Path], Content]
) -> dict[Path, Content]:
    """Return the content of each image's annotation file.

    Files that cannot be used are problems; with `skip_bad`, their images are left out.
    """
    contents, bad = dict[Path, Content](), dict[Path, BadAnnotation]()
    for image, path in matches.items():
        try:
            contents[image] = read(path)
        except BadAnnotation as error:
            bad[image] = error
    by_problem: dict[tuple[str, str], list[Path]] = {}
    for image, bad_file in bad.items():
        by_problem.setdefault(bad_file.problem, []).append(image)
    for problem, images in by_problem.items():
        first = min(images, key=lambda image: matches[image])
        subject = (
            f"{counted(len(images), 'annotation file')} {problem[len(images) > 1]} "
            f"(first: {printable(layout.name(matches[first]))}: {bad[first].detail})"
        )
        its = "its image" if len(images) == 1 else "their images"
        if layout.skip_bad:
            is_or_are = "is" if len(images) == 1 else "are"
            layout.notes.append(f"warning: {subject}, and {its} {is_or_are} left out.")
            layout.reasons |= {image: f"its annotation file {bad[image]}" for image in images}
        else:
            layout.problems.append(
                f"{subject}. Correct {'it' if len(images) == 1 else 'them'}, or leave out {its} "
                "with --skip-bad."
            )
    return contents


def take_parts(layout: BoxLayout, part_of_image: Mapping[Path, str]) -> None:
    """Set the parts of the layout, from the part of each image; images without one are training.

    Raises:
        DataError: there are no training images, or only some of the images have a part.
    """
    location = repr(printable(str(layout.root)))
    paths_of: dict[str, list[Path]] = {}
    for path, part in sorted(part_of_image.items()):
        paths_of.setdefault(part, []).append(path)
    names = " and ".join(repr(part) for part in TITLES if part in paths_of)
    if not paths_of:
        raise layout.refuse(f"no image in {location} has annotations that can be used.")
    if "" in paths_of:
        if names:
            paths = paths_of[""]
            raise layout.refuse(
                f"{location} has images in {names}, but also {counted(len(paths), 'image')} "
                f"outside ({layout.first(paths)}). Put all images into train/, val/ and test/, or "
                "none of them."
            )
        paths_of = {"train": paths_of[""]}
    if "train" not in paths_of:
        raise layout.refuse(
            f"{location} has {names} with boxes but no 'train'. Name the training set 'train'."
        )
    layout.parts = {
        part: [("", path) for path in paths_of[part]] for part in TITLES if part in paths_of
    }
