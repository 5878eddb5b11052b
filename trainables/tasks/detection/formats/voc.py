"""Pascal VOC annotations: an XML file for each image (http://host.robots.ox.ac.uk/pascal/VOC/).

Coordinates are those of pixels, counted from 1, and the last pixel belongs to the box. A box thus
begins at `xmin - 1` and ends at `xmax`, measured from the left edge of the image. Label Studio and
Roboflow write the distances themselves: if any box of a folder begins at 0, all begin at `xmin`.
If `xmin` and `xmax` are equal, the box is read as empty, because such boxes come from accidental
clicks.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from trainables.datasets.pairs import PlacedFile
from trainables.datasets.walk import Folder
from trainables.errors import counted, printable
from trainables.tasks.detection.formats.layout import (
    MANY_FILES,
    NO_ANNOTATIONS,
    NO_IMAGE,
    NOT_IN_A_SET,
    UNREADABLE,
    BadAnnotation,
    BoxLayout,
    are_class_folders,
    in_turns,
    match_by_key,
    place,
    read_each,
    select_images,
    take_parts,
    without_unannotated_parts,
)
from trainables.tasks.detection.values import COLUMNS

FORBIDDEN = (b"<!DOCTYPE", b"<!ENTITY", b"\0")
"""Declarations that could make a parser read other files, or need much memory.

Zero bytes are those of UTF-16, in which the declarations would be written differently.
"""
LISTS = ("train", "val", "test", "trainval")
"""The files in ImageSets/Main that list the images of a set."""
CLAUSE = "it has Pascal VOC annotations"


@dataclass(frozen=True)
class VocObject:
    """An object of an annotation file."""

    name: str
    corners: tuple[float, float, float, float]
    """xmin, ymin, xmax and ymax."""
    is_difficult: bool

    def edges(self, first: int) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom; `first` is the number of the first pixel.

        An empty or inverted box stays one.
        """
        x1, y1, x2, y2 = self.corners
        if not (x1 < x2 and y1 < y2):
            x2, y2 = min(x1 - 1, x2), min(y1 - 1, y2)
        return x1 - first, y1 - first, x2, y2


@dataclass(frozen=True)
class VocAnnotation:
    """The content of an annotation file."""

    size: tuple[int, int] | None
    """(width, height); None if it is not stated."""
    objects: list[VocObject]


def read_voc(path: Path) -> VocAnnotation:
    """Read an annotation file.

    Raises:
        BadAnnotation: it cannot be read.
    """
    root = _parse(path)
    if root.tag != "annotation":
        raise BadAnnotation(UNREADABLE, "it has no <annotation>")
    try:
        size = root.find("size")
        sides = [] if size is None else [float(size.findtext(tag, "")) for tag in SIDES]
    except ValueError:
        sides = []
    objects = [_object_of(element) for element in root.findall("object")]
    is_stated = len(sides) == 2 and all(0 < side < np.inf for side in sides)
    return VocAnnotation((int(sides[0]), int(sides[1])) if is_stated else None, objects)


SIDES = ("width", "height")


def _parse(path: Path) -> ElementTree.Element:
    """Parse a file that declares no entities.

    Raises:
        BadAnnotation: it cannot be parsed.
    """
    try:
        content = path.read_bytes()
        if any(word in content for word in FORBIDDEN):
            raise BadAnnotation(UNREADABLE, "it has a DOCTYPE, entities or zero bytes")
        return ElementTree.fromstring(content)
    except OSError as error:
        raise BadAnnotation(UNREADABLE, str(error.strerror)) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        if isinstance(error, BadAnnotation):
            raise
        raise BadAnnotation(UNREADABLE, "it is not well-formed XML") from error


def _object_of(element: ElementTree.Element) -> VocObject:
    """Read an <object>.

    Raises:
        BadAnnotation: it has no name, or no box of four numbers.
    """
    name, box = element.findtext("name", "").strip(), element.find("bndbox")
    if not name or box is None:
        raise BadAnnotation(UNREADABLE, "an object has no <name> or no <bndbox>")
    try:
        x1, y1, x2, y2 = (float(box.findtext(tag, "")) for tag in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError as error:
        raise BadAnnotation(UNREADABLE, "a <bndbox> has not four numbers") from error
    is_difficult = element.findtext("difficult", "").strip() == "1"
    return VocObject(name, (x1, y1, x2, y2), is_difficult)


def is_voc(path: Path) -> bool:
    """True if a file can be parsed and has an <annotation>."""
    try:
        return _parse(path).tag == "annotation"
    except BadAnnotation:
        return False


def voc_files(top_folder: Folder) -> list[Path]:
    """Return the XML files below a folder."""
    return sorted(path for path in top_folder.not_read if path.suffix.lower() == ".xml")


def why_voc(top_folder: Folder) -> str:
    """Return the reason to read a folder with VOC annotations as boxes; empty if there is none.

    Few files are opened. Class folders with annotations remain classes.
    """
    if not (files := voc_files(top_folder)):
        return ""
    images = place(top_folder.all_images, top_folder.path)
    matches = _match(images, place(files, top_folder.path))
    opened = set(in_turns(matches)[:MANY_FILES])
    if not any(is_voc(matches[path]) for path in opened):
        return ""
    names = {name for path in opened for name in _names_in(matches[path])}
    is_classes = are_class_folders([image for image in images if image.path in opened], names)
    return "" if is_classes else CLAUSE


def _names_in(path: Path) -> set[str]:
    """Return the class names in an annotation file; none if it cannot be read."""
    try:
        return {each.name for each in read_voc(path).objects}
    except BadAnnotation:
        return set()


def _match(images: list[PlacedFile], files: list[PlacedFile]) -> dict[Path, Path]:
    """Return the annotation file of each image.

    It has the same key, or is the only file of this name, as in `annotations/xmls/`.
    """
    matches = match_by_key(images, files)
    used = set(matches.values())
    counts = Counter(image.stem for image in images), Counter(file.stem for file in files)
    by_stem = {file.stem: file for file in files if file.path not in used}
    for image in images:
        file = by_stem.get(image.stem)
        is_unique = all(count[image.stem] == 1 for count in counts)
        if file and is_unique and image.path not in matches and file.part in ("", image.part):
            matches[image.path] = file.path
    return matches


def take_voc(layout: BoxLayout, top_folder: Folder) -> None:
    """Fill in the layout from the XML files below a folder.

    Raises:
        DataError: there are too many classes, or the parts are not clear.
    """
    layout.add_task(CLAUSE)
    images, files = place(top_folder.all_images, layout.root), voc_files(top_folder)
    matches = _match(images, place(files, layout.root))
    used = set(matches.values())
    lone_files = [path for path in files if path not in used and is_voc(path)]
    images = select_images(layout, images, matches)
    layout.refuse_doubled(images)
    layout.use([*sorted(used), *lone_files])
    images = without_unannotated_parts(layout, _in_sets(layout, top_folder, images), matches)
    lone_images = [image.path for image in images if image.path not in matches]
    layout.set_aside(lone_images, NO_ANNOTATIONS, ("image", "images"), "no annotation file")
    layout.set_aside(lone_files, NO_IMAGE, ("annotation file", "annotation files"), "no image")
    part_of_image = {image.path: image.part for image in images if image.path in matches}
    layout.sources = {path: matches[path] for path in part_of_image}
    contents = read_each(layout, layout.sources, read_voc)
    names = {each.name for content in contents.values() for each in content.objects}
    layout.name_classes(tuple(sorted(names)), "the annotations")
    numbers = {name: number for number, name in enumerate(layout.classes)}
    first = _first_pixel(contents.values())
    reason = "" if first else ", because a box begins at 0"
    layout.form = f"Pascal VOC annotations (pixels are counted from {first}{reason})"
    for path, content in contents.items():
        rows = [
            [*each.edges(first), numbers[each.name], each.is_difficult] for each in content.objects
        ]
        layout.raw_boxes[path] = np.array(rows, float).reshape(-1, COLUMNS)
        if content.size is not None:
            layout.stated_sizes[path] = content.size
    readable = part_of_image if layout.problems else contents
    take_parts(layout, {path: part_of_image[path] for path in readable})


def _first_pixel(contents: Iterable[VocAnnotation]) -> int:
    """Return the number of the first pixel: 1, or 0 if a box begins there."""
    starts = (start for each in contents for item in each.objects for start in item.corners[:2])
    return 0 if any(0 <= start < 1 for start in starts) else 1


def _in_sets(layout: BoxLayout, top_folder: Folder, images: list[PlacedFile]) -> list[PlacedFile]:
    """Return the images with the parts of ImageSets/Main; without it, they keep their own."""
    lists = {
        path
        for path in top_folder.not_read
        if path.parts[-3:-1] == ("ImageSets", "Main") and path.stem in LISTS
        if path.suffix == ".txt"
    }
    if not lists:
        return images
    layout.use(sorted(lists))
    by_folder: dict[Path, dict[str, set[str]]] = {}
    for path in sorted(lists):
        by_folder.setdefault(path.parents[2], {})[path.stem] = _read_list(layout, path)
    for sets in by_folder.values():
        joint = sets.pop("trainval", set())
        sets.setdefault("train", joint - sets.get("val", set()))
    placed, unlisted, several = [], list[Path](), list[Path]()
    matched: dict[Path, set[str]] = {folder: set() for folder in by_folder}
    for image in images:
        folder = next((each for each in image.path.parents if each in by_folder), None)
        sets = {} if folder is None else by_folder[folder]
        parts = [part for part, stems in sets.items() if image.stem in stems]
        if folder is None or not parts:
            unlisted.append(image.path)
            continue
        matched[folder].add(image.stem)
        placed.append(replace(image, part=parts[0]))
        if len(parts) > 1:
            several.append(image.path)
    layout.leave_out(unlisted, NOT_IN_A_SET)
    if several:
        layout.problems.append(
            f"{counted(len(several), 'image')} {'is' if len(several) == 1 else 'are'} in several "
            f"lists of ImageSets/Main ({layout.first(several)}). Keep each in one list."
        )
    missing = [
        folder / stem
        for folder, sets in by_folder.items()
        for stem in set[str]().union(*sets.values()) - matched[folder]
    ]
    nouns = ("entry of the lists in ImageSets/Main", "entries of the lists in ImageSets/Main")
    layout.set_aside(missing, NO_IMAGE, nouns, "no image")
    return placed


def _read_list(layout: BoxLayout, path: Path) -> set[str]:
    """Read the names of the images of a set: the first word of each line.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        lines: Iterable[str] = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise layout.refuse(
            f"{printable(layout.name(path))!r} cannot be read. Save it as UTF-8 text."
        ) from error
    return {line.split()[0] for line in lines if line.strip()}
