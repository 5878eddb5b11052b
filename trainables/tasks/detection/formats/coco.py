"""COCO annotations: the boxes of JSON files (https://cocodataset.org/#format-data)."""

import json
import mmap
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainables.datasets.names import LIKE_A_PART, part_of
from trainables.datasets.pairs import PlacedFile
from trainables.datasets.walk import Folder
from trainables.errors import DataError, counted, printable
from trainables.tasks.detection.formats.layout import (
    MANY_FILES,
    NO_ANNOTATIONS,
    NO_IMAGE,
    BoxLayout,
    ImageMatcher,
    are_class_folders,
    place,
    take_parts,
    without_unannotated_parts,
)
from trainables.tasks.detection.values import CLASS, COLUMNS, RawBoxes

WORDS = (b'"images"', b'"annotations"', b'"categories"')
"""A COCO file has all of these words."""
NOTHING = rb'"annotations"\s*:\s*\[\s*\]'
"""Matches an empty list of annotations."""
INSTANCES = "instances_"
"""If the names of some files begin so, only they are read: the others repeat their images."""
ENTRIES = ("entry of the annotations", "entries of the annotations")
DAMAGED = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""The errors that reading a damaged file raises."""


@dataclass(frozen=True)
class BoxedImage:
    """An image of the annotations, and its boxes."""

    file: str
    """The image's file, as the annotations name it."""
    size: tuple[int, int] | None
    """(width, height); None if it is not stated."""
    rows: list[list[float]] = field(default_factory=list)
    """The boxes, each with the place of its category among the file's."""


@dataclass(frozen=True)
class CocoBoxes:
    """The content of a JSON file."""

    part: str
    """The part that the file's name means; empty for none."""
    categories: list[tuple[str, str]]
    """The name and the super-category of each category, by ascending ids."""
    has_zero: bool
    """True if the first category has the id 0."""
    images: list[BoxedImage]

    @property
    def used(self) -> set[str]:
        """The categories that have boxes."""
        places = {int(row[CLASS]) for image in self.images for row in image.rows}
        return {self.categories[place][0] for place in places}


def coco_files(top_folder: Folder, most: int | None = None) -> list[Path]:
    """Return the COCO files with boxes below a folder, of which at most `most` are opened.

    If there are any, so are those without annotations, whose images have no objects.
    """
    paths = sorted(
        (path for path in top_folder.not_read if path.suffix.lower() == ".json"),
        key=lambda path: (len(path.parts), path),
    )
    files = [path for path in paths[:most] if _has_words(path)]
    if not any(_has_words(path, b'"bbox"') for path in files):
        return []
    files = [path for path in files if _has_words(path, b'"bbox"') or _has_words(path, NOTHING)]
    return [path for path in files if path.name.lower().startswith(INSTANCES)] or files


def why_coco(top_folder: Folder) -> str:
    """Return the reason to read a folder with COCO annotations as boxes; empty if there is none.

    Images in several folders may be those of classes. They are read as boxes if the annotations
    name most of them, and the folders do not have the names of the categories.
    """
    files = coco_files(top_folder, MANY_FILES)
    images = place(top_folder.all_images, top_folder.path)
    if not files or not images:
        return ""
    if len({image.inner for image in images}) > 1:
        try:
            contents = {path: read_coco_boxes(path) for path in files}
        except DataError:  # the reader reports it
            return _clause(files)
        names = {name for content in contents.values() for name, _ in content.categories}
        if are_class_folders(images, names) or not _names_most(contents, images):
            return ""
    return _clause(files)


def _names_most(contents: dict[Path, CocoBoxes], images: Collection[PlacedFile]) -> bool:
    """True if the annotations name most of these images, each clearly."""
    matcher = ImageMatcher(images)
    matches = [
        matcher.match(boxed.file, (source.parent,), _part_of_file(content, contents))
        for source, content in contents.items()
        for boxed in content.images
    ]
    return 2 * len({paths[0] for paths in matches if len(paths) == 1}) > len(images)


def _clause(files: list[Path]) -> str:
    return f"{printable(files[0].name)!r} has boxes"


def _has_words(path: Path, *patterns: bytes) -> bool:
    """True if a file has text for each of these patterns; without any, those of COCO files."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            return all(re.search(pattern, text) for pattern in patterns or WORDS)
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False


def read_coco_boxes(path: Path) -> CocoBoxes:
    """Read the categories and the boxes of a file.

    Raises:
        DataError: the file is damaged, or images or categories share an id.
    """
    try:
        content = json.loads(path.read_bytes())
        categories = sorted(content["categories"], key=lambda category: category["id"])
        places = {category["id"]: place for place, category in enumerate(categories)}
        images = {
            image["id"]: BoxedImage(str(image["file_name"]).replace("\\", "/"), _size_of(image))
            for image in content["images"]
        }
        unknown = Counter(
            annotation["category_id"]
            for annotation in content["annotations"]
            if annotation["category_id"] not in places
        )
        for annotation in content["annotations"] if not unknown else ():
            row = [*_corners_of(annotation.get("bbox")), float(places[annotation["category_id"]])]
            row.append(float(bool(annotation.get("iscrowd"))))
            images[annotation["image_id"]].rows.append(row)
        names = [
            (str(category["name"]), str(category.get("supercategory", "")))
            for category in categories
        ]
        has_zero = bool(categories) and categories[0]["id"] == 0
        image_ids = Counter(image["id"] for image in content["images"])
        category_ids = Counter(category["id"] for category in categories)
    except DAMAGED as error:
        raise DataError(
            f"{printable(path.name)!r} cannot be read as COCO annotations "
            f"({type(error).__name__}: {printable(str(error))[:80]}). Export it again, with "
            "'images', 'annotations' and 'categories'."
        ) from error
    _require_categories(path, unknown, list(places))
    _require_unique(path, "images", image_ids)
    _require_unique(path, "categories", category_ids)
    stem = re.sub(r"\d+", "", path.stem.removesuffix(".coco"))
    return CocoBoxes(part_of(stem, LIKE_A_PART), names, has_zero, list(images.values()))


def _require_categories(path: Path, unknown: Counter[Any], ids: list[Any]) -> None:
    """Check that no annotation has a category that is not listed.

    Raises:
        DataError: one has.
    """
    if unknown:
        first, count = unknown.most_common(1)[0]
        listed = ", ".join(printable(str(each)) for each in ids[:10])
        raise DataError(
            f"{counted(count, 'annotation')} in {printable(path.name)!r} "
            f"{'has' if count == 1 else 'have'} the category {printable(str(first))[:40]}, but "
            f"'categories' lists {listed or 'none'}{', ...' if len(ids) > 10 else ''}. Correct "
            "the ids, or export the file again."
        )


def _require_unique(path: Path, noun: str, ids: Counter[Any]) -> None:
    """Check that an id is used only once.

    Raises:
        DataError: it is used several times.
    """
    doubled = next((each for each, count in ids.items() if count > 1), None)
    if doubled is not None:
        raise DataError(
            f"{printable(path.name)!r} has {ids[doubled]:,} {noun} with the id "
            f"{printable(str(doubled))[:40]}, but ids must be different. Export it again, for "
            "example one file for each part."
        )


def _part_of_file(content: CocoBoxes, files: Iterable[Path]) -> str:
    """Return the part that the name of a file means, among these files.

    A single file that is not named after the training set has all images: `my_test_set.json`.
    """
    return content.part if len(list(files)) > 1 or content.part == "train" else ""


def _size_of(image: dict[str, Any]) -> tuple[int, int] | None:
    size = image.get("width"), image.get("height")
    return (int(size[0]), int(size[1])) if size[0] and size[1] else None


def _corners_of(box: Any) -> list[float]:
    """Return the edges of a box [x, y, width, height]; not finite if it has another form."""
    try:
        x, y, width, height = map(float, box)
    except (ValueError, TypeError, OverflowError):
        return [np.nan] * 4
    return [x, y, x + width, y + height]


def take_coco(layout: BoxLayout, top_folder: Folder, files: list[Path]) -> None:
    """Fill in the layout from COCO files.

    Raises:
        DataError: a file is damaged, there are too many categories, or the parts are not clear.
    """
    layout.add_task(_clause(files))
    layout.form = "COCO annotations"
    layout.use(files)
    contents = {path: read_coco_boxes(path) for path in files}
    layout.name_classes(_join_categories(layout, contents), "the annotations")
    numbers = {name: number for number, name in enumerate(layout.classes)}
    matcher = ImageMatcher(place(top_folder.all_images, layout.root))
    images = dict[Path, str]()
    missing, doubled = list[Path](), list[Path]()
    for source, content in contents.items():
        part = _part_of_file(content, files)
        own_numbers = np.array([numbers.get(name, -1) for name, _ in content.categories], float)
        for boxed in content.images:
            paths = matcher.match(boxed.file, (source.parent,), part)
            if len(paths) != 1:
                name = layout.root / boxed.file.lstrip("/")
                (doubled if paths else missing).append(name)
            elif paths[0] in images:
                doubled.append(paths[0])
            else:
                image = matcher.placed[paths[0]]
                images[image.path] = part or image.part
                layout.raw_boxes[image.path] = _as_boxes(boxed, own_numbers)
                if boxed.size is not None:
                    layout.stated_sizes[image.path] = boxed.size
    if doubled:
        layout.problems.append(
            f"{counted(len(doubled), 'image')} of the annotations can be several files, or "
            f"{'is' if len(doubled) == 1 else 'are'} listed twice ({layout.first(doubled)}). "
            "Rename the files."
        )
    layout.set_aside(missing, NO_IMAGE, ENTRIES, "no image")
    matched = {*images, *doubled}
    unlisted = [image for path, image in matcher.placed.items() if path not in matched]
    parts = {"", "train", *images.values()}
    without_unannotated_parts(layout, [image for image in unlisted if image.part not in parts], ())
    lone = [image.path for image in unlisted if image.part in parts]
    layout.set_aside(lone, NO_ANNOTATIONS, ("image", "images"), "no entry in the annotations")
    take_parts(layout, images)


def _as_boxes(boxed: BoxedImage, numbers: RawBoxes) -> RawBoxes:
    """Return the boxes of an image with the class numbers of the whole folder."""
    boxes = np.array(boxed.rows, float).reshape(-1, COLUMNS)
    boxes[:, CLASS] = numbers[boxes[:, CLASS].astype(int)]
    return boxes


def _join_categories(layout: BoxLayout, contents: dict[Path, CocoBoxes]) -> tuple[str, ...]:
    """Return the categories of all files, without the one that Roboflow adds above them."""
    supers = {name: above for each in contents.values() for name, above in each.categories}
    used = set[str]().union(*(content.used for content in contents.values()))
    if len({frozenset(dict(content.categories)) for content in contents.values()}) > 1:
        layout.notes.append(
            "note: the categories of the annotation files differ; all "
            f"{len(supers):,} of them are used."
        )
    first = next(iter(supers), "")
    has_zero = all(content.has_zero for content in contents.values())
    below = [above for name, above in supers.items() if name != first]
    if has_zero and below and first not in used and set(below) == {first}:
        layout.notes.append(
            f"note: the category {printable(first)!r} is left out, because it has no boxes, and "
            "all other categories belong to it."
        )
        del supers[first]
    return tuple(supers)
