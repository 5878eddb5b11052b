"""YOLO annotations: a text file for each image, with a row for each box.

A row is the class number, then the centre, width and height of the box, divided by the width and
height of the image (https://docs.ultralytics.com/datasets/detect). Longer rows are polygons,
or have key points if the description has a `kpt_shape`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from trainables.datasets.arrays import TITLES
from trainables.datasets.names import part_of
from trainables.datasets.pairs import PlacedFile
from trainables.datasets.walk import Folder
from trainables.errors import DataError, counted, printable
from trainables.tasks.detection.formats.layout import (
    DARKNET_FOLDER,
    MANY_FILES,
    NO_IMAGE,
    NOT_IN_A_SET,
    UNREADABLE,
    BadAnnotation,
    BoxLayout,
    ImageMatcher,
    are_class_folders,
    endings,
    in_turns,
    match_by_key,
    part_of_folder,
    place,
    read_each,
    select_images,
    take_parts,
    without_unannotated_parts,
)
from trainables.tasks.detection.values import CLASS, COLUMNS, RawBoxes, no_boxes

LARGEST_SHARE = 10
"""Larger coordinates are probably pixels; those a little above 1 are boxes beyond the edges."""
NAME_FILES = {"classes.txt", "obj.names"}
DARKNET_FILE = "obj.data"
"""The description in Darknet's layout, which CVAT exports as `YOLO 1.1`."""
LARGEST_DESCRIPTION = 1_000_000
"""The maximum size, in bytes, of a YAML file that is read."""
UNKNOWN_CLASS = ("has an unknown class number", "have unknown class numbers")
IN_PIXELS = ("has coordinates in pixels", "have coordinates in pixels")
FIELDS = 5


@dataclass(frozen=True)
class YoloDescription:
    """The content of `data.yaml` or `obj.data`."""

    path: Path
    names: tuple[str, ...]
    folder: str
    """The data set's folder as the file names it, often one of another machine."""
    sets: Mapping[str, list[str]]
    """The folders or lists of each part."""
    point_values: int = 0
    """The number of values of the key points that follow a box in each row."""
    names_path: Path | None = None
    """The file of the names, if it is another one."""

    @property
    def files(self) -> list[Path]:
        """The files that were read."""
        return [self.path] if self.names_path is None else [self.path, self.names_path]


class OtherText(BadAnnotation):
    """A file that may be no label file, because it has words or is not text."""

    def __init__(self, detail: str) -> None:
        super().__init__(UNREADABLE, detail)


def read_rows(path: Path, names: tuple[str, ...], source: str, point_values: int = 0) -> RawBoxes:
    """Read the boxes of an image, whose coordinates are shares of its width and height.

    Args:
        path: the label file.
        names: the classes; empty if any class number is allowed.
        source: the file that names the classes, for messages.
        point_values: the number of values of key points that follow a box.

    Raises:
        BadAnnotation: the file cannot be read, or has an unknown class number.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise BadAnnotation(UNREADABLE, str(error.strerror)) from error
    except UnicodeDecodeError as error:
        raise OtherText("it is not text") from error
    rows = [
        _read_row(line.split(), number, names, source, point_values)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    return np.array(rows, float).reshape(-1, COLUMNS)


def _read_row(
    words: list[str], line: int, names: tuple[str, ...], source: str, point_values: int
) -> list[float]:
    try:
        number, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError as error:
        raise OtherText(f"line {line} has other words than numbers") from error
    is_polygon = not point_values and len(words) > FIELDS + 1 and len(values) % 2 == 0
    if len(words) not in (FIELDS, FIELDS + point_values) and not is_polygon:
        points = f" and {point_values} values of key points" if point_values else ""
        raise BadAnnotation(
            UNREADABLE,
            f"line {line} has {counted(len(words), 'value')} instead of {FIELDS + point_values}: "
            f"class x y width height{points}",
        )
    if point_values:
        values = values[: FIELDS - 1]
    if not (number.is_integer() and 0 <= number < (len(names) or np.inf)):
        names_text = (
            f", but {source} names {counted(len(names), 'class', 'classes')}" if names else ""
        )
        raise BadAnnotation(UNKNOWN_CLASS, f"line {line} has {words[0][:20]}{names_text}")
    if any(np.isfinite(value) and abs(value) > LARGEST_SHARE for value in values):
        raise BadAnnotation(IN_PIXELS, f"line {line}; they must be divided by the image's sides")
    if is_polygon:
        x, y = values[::2], values[1::2]
        return [min(x), min(y), max(x), max(y), number, 0]
    x_centre, y_centre, width, height = values
    x1, y1 = x_centre - width / 2, y_centre - height / 2
    return [x1, y1, x1 + width, y1 + height, number, 0]


# The description


def find_description(top_folder: Folder) -> YoloDescription | None:
    """Return the description in the YAML file with `names` closest to the root, if there is one.

    Of several, `data.yaml` is preferred, then the first by name. Without one, `obj.data` is read.

    Raises:
        DataError: `data.yaml`, the only YAML file beside label files, or `obj.data` is damaged.
    """
    paths = sorted(
        (path for path in top_folder.not_read if path.suffix.lower() in (".yaml", ".yml")),
        key=lambda path: (len(path.parts), path.stem.lower() != "data", path),
    )
    for path in paths:
        try:
            description = _read_description(path)
        except DataError:
            is_only = len(paths) == 1 and _label_files(top_folder)
            if path.stem.lower() == "data" or is_only:
                raise
            continue
        if description is not None:
            return description
    return _find_darknet(top_folder)


def _read_description(path: Path) -> YoloDescription | None:
    """Read a YAML file; None if it does not name classes.

    Raises:
        DataError: it cannot be read or parsed.
    """
    content = _parse(path)
    if not isinstance(content, dict) or not (names := _read_names(content.get("names"))):
        return None
    sets = {title: _entries(content, title) for title in TITLES}
    folder = content.get("path")
    return YoloDescription(
        path,
        names,
        folder if isinstance(folder, str) else "",
        {title: entries for title, entries in sets.items() if entries},
        _count_point_values(content.get("kpt_shape")),
    )


def _parse(path: Path) -> Any:
    """Parse a YAML file, in which each value stays a text; None if it is too large.

    Otherwise names such as `on` and `no` would become booleans, as in YAML 1.1.

    Raises:
        DataError: it cannot be read or parsed.
    """
    text = _read_text(path)
    if text is None:
        return None
    try:
        return yaml.BaseLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        cause = error.problem or "it has an error"
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        cause = "it has a character that is not allowed"
    except (RecursionError, ValueError):
        line, cause = 1, "it is nested too deeply"
    raise DataError(
        f"{printable(path.name)!r} cannot be parsed: line {line}: {printable(cause)}. Correct the "
        "line; write a path with \\ between single quotes."
    )


def _read_text(path: Path) -> str | None:
    """Read a description; None if it is too large.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    name = repr(printable(path.name))
    try:
        if path.stat().st_size > LARGEST_DESCRIPTION:
            return None
        content = path.read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{name} cannot be read ({error.strerror}). Check its permissions."
        ) from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{name} cannot be read: line {line} is not UTF-8. Save the file as UTF-8 text."
        ) from error


def _count_point_values(shape: Any) -> int:
    """Return the number of values of key points with the `kpt_shape` [points, values of each]."""
    try:
        sides = [int(side) for side in shape]
    except (ValueError, TypeError):
        return 0
    return prod(sides) if len(sides) == 2 and all(0 < side < 10_000 for side in sides) else 0


def _find_darknet(top_folder: Folder) -> YoloDescription | None:
    """Return the description in `obj.data`, if there is one.

    Its lists name the images of each part. A part without one has those of its folder, such as
    `obj_valid_data`.

    Raises:
        DataError: it cannot be read.
    """
    paths = [path for path in top_folder.not_read if path.name.lower() == DARKNET_FILE]
    path = min(paths, key=lambda path: (len(path.parts), path), default=None)
    if path is None or (text := _read_text(path)) is None:
        return None
    pairs = [line.split("=", 1) for line in text.splitlines() if "=" in line]
    values = {key.strip().lower(): value.strip() for key, value in pairs}
    sets: dict[str, list[str]] = {}
    for key, value in values.items():
        is_list = any((path.parent / ending).is_file() for ending in endings(value))
        if (part := part_of(key)) and is_list:
            sets[part] = [value]
    folders: dict[str, list[str]] = {}
    for folder in _darknet_folders(top_folder):
        folders.setdefault(part_of_folder(folder.name), []).append(folder.path.as_posix())
    sets = {part: entries for part, entries in folders.items() if part} | sets
    candidates = [path.parent / ending for ending in endings(values.get("names", ""))]
    names_path = next((each for each in candidates if each in top_folder.not_read), None)
    names_text = None if names_path is None else _read_text(names_path)
    return YoloDescription(
        path,
        _lines_of(names_text or ""),
        "",
        sets if "train" in sets else {},
        names_path=names_path,
    )


def _darknet_folders(folder: Folder) -> list[Folder]:
    """Return the folders such as `obj_train_data` below a folder."""
    matched = [each for each in folder.folders if DARKNET_FOLDER.fullmatch(each.name)]
    return matched + [inner for each in folder.folders for inner in _darknet_folders(each)]


def _lines_of(text: str) -> tuple[str, ...]:
    """Return the lines of a list of names that are not empty."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _read_names(names: Any) -> tuple[str, ...]:
    """Return the classes of a list, or of a mapping from numbers; empty if they are neither."""
    if not isinstance(names, list | dict) or not names:
        return ()
    each = names.values() if isinstance(names, dict) else names
    # The text of nested lists that refer to each other could fill the memory.
    if not all(isinstance(name, str) for name in each):
        return ()
    pairs = enumerate(names) if isinstance(names, list) else names.items()
    try:
        by_number = {int(number): name for number, name in pairs}
    except (ValueError, TypeError, OverflowError):
        return ()
    count = max(by_number) + 1
    if min(by_number) < 0 or count > LARGEST_DESCRIPTION:
        return ()
    return tuple(by_number.get(number) or f"class {number}" for number in range(count))


def _entries(content: Mapping[Any, Any], title: str) -> list[str]:
    """Return the folders or lists of a part; `valid` is another name of `val`."""
    values: Any = next(
        (value for key, value in content.items() if part_of(str(key)) == title and value), []
    )
    entries = values if isinstance(values, list) else [values]
    return [entry for entry in entries if isinstance(entry, str)]


# The layout


def why_yolo(top_folder: Folder) -> str:
    """Return the reason to read a folder with YOLO annotations as boxes; empty if there is none.

    Few label files are opened. Class folders with label files remain classes.
    """
    images, files = place(top_folder.all_images, top_folder.path), _label_files(top_folder)
    matches = match_by_key(images, files)
    try:
        description = find_description(top_folder)
        if not matches:  # the reader reports that the label files are missing
            is_one_folder = len({image.inner for image in images}) == 1
            return _clause(description) if description and is_one_folder else ""
        is_described = description is not None
    except DataError:  # the reader reports it
        if not matches:
            return ""
        description, is_described = None, True
    names = _first_names(top_folder) if description is None else description.names
    if are_class_folders(images, names):
        return ""
    point_values = 0 if description is None else description.point_values
    filled = (matches[image] for image in in_turns(matches) if matches[image].stat().st_size)
    counts = {path: _count_boxes(path, point_values) for path in islice(filled, MANY_FILES)}
    if is_described:
        is_other = counts and all(count is None for count in counts.values())
        return "" if is_other else _clause(description)
    is_labelled = any(file.role and counts.get(file.path) for file in files)
    has_names = any(path.name.lower() in NAME_FILES for path in top_folder.not_read)
    return _clause(None) if is_labelled or (has_names and any(counts.values())) else ""


def _count_boxes(path: Path, point_values: int) -> int | None:
    """Return the number of boxes in a label file: 0 if it is damaged, None if it has other text."""
    try:
        return len(read_rows(path, (), "", point_values))
    except OtherText:
        return None
    except BadAnnotation:
        return 0


def _first_names(top_folder: Folder) -> tuple[str, ...]:
    """Return the names of the first list of classes; empty if it is missing or damaged."""
    paths = sorted(path for path in top_folder.not_read if path.name.lower() in NAME_FILES)
    try:
        return _lines_of(_read_text(paths[0]) or "") if paths else ()
    except DataError:  # the reader reports it
        return ()


def _clause(description: YoloDescription | None) -> str:
    if description is None or not description.names:
        return "it has YOLO label files"
    return f"{printable(description.path.name)!r} names classes for boxes"


def _label_files(top_folder: Folder) -> list[PlacedFile]:
    """Return the text files below a folder that may have boxes."""
    paths = [path for path in top_folder.not_read if path.suffix.lower() == ".txt"]
    return place(
        sorted(path for path in paths if path.name.lower() not in NAME_FILES), top_folder.path
    )


def take_yolo(layout: BoxLayout, top_folder: Folder) -> None:
    """Fill in the layout from the label files below a folder.

    Raises:
        DataError: the classes or the parts are not clear.
    """
    description = find_description(top_folder)
    layout.add_task(_clause(description))
    layout.form, layout.are_shares = "YOLO label files", True
    images, files = place(top_folder.all_images, layout.root), _label_files(top_folder)
    matches = match_by_key(images, files)
    if images and not matches:
        name = printable(images[0].path.with_suffix(".txt").name)
        raise layout.refuse(
            f"no image has a label file (expected for example '{name}' in a folder 'labels', or "
            "beside the image). Add the label files, or name the folder that contains them."
        )
    images = select_images(layout, images, matches)
    layout.refuse_doubled(images)
    names, source = _find_names(layout, top_folder, description)
    if description is not None and description.sets:
        images = _SetReader(layout, description, images).place_images()
    images = without_unannotated_parts(layout, images, matches)
    used = set(matches.values())
    lone = [file.path for file in files if file.role == "masks" and file.path not in used]
    layout.use([*sorted(used), *lone])
    layout.set_aside(lone, NO_IMAGE, ("label file", "label files"), "no image")
    part_of_image = {image.path: image.part for image in images}
    layout.sources = {path: matches[path] for path in part_of_image if path in matches}
    point_values = 0 if description is None else description.point_values
    boxes = read_each(
        layout, layout.sources, lambda path: read_rows(path, names, source, point_values)
    )
    if not names:
        numbers = [int(each[:, CLASS].max()) for each in boxes.values() if len(each)]
        layout.check_count(max(numbers, default=-1) + 1, "the label files")
        names = tuple(f"class {number}" for number in range(max(numbers, default=-1) + 1))
    layout.name_classes(names, source)
    bad = set() if layout.problems else layout.sources.keys() - boxes.keys()
    empty = no_boxes().astype(float)
    layout.raw_boxes = {path: boxes.get(path, empty) for path in part_of_image if path not in bad}
    take_parts(layout, {path: part for path, part in part_of_image.items() if path not in bad})


def _find_names(
    layout: BoxLayout, top_folder: Folder, description: YoloDescription | None
) -> tuple[tuple[str, ...], str]:
    """Return the names of the classes, empty if there are none, and their file for messages.

    Raises:
        DataError: two files name different classes, or a name occurs twice.
    """
    if description is not None:
        layout.use(description.files)
        if description.names:
            source = repr(printable(description.files[-1].name))
            return _without_copies(layout, description.names, source), source
    paths = sorted(
        (path for path in top_folder.not_read if path.name.lower() in NAME_FILES),
        key=lambda path: (len(path.parts), path),
    )
    if not paths:
        layout.notes.append("note: no file names the classes ('data.yaml' or 'classes.txt').")
        return (), "the label files"
    layout.use(paths)
    try:
        texts = [path.read_text(encoding="utf-8-sig") for path in paths]
    except (OSError, UnicodeDecodeError) as error:
        raise layout.refuse(
            f"{printable(layout.name(paths[0]))!r} cannot be read. Save it as UTF-8 text."
        ) from error
    lists = [_lines_of(text) for text in texts]
    if len(set(lists)) > 1:
        file_names = " and ".join(repr(printable(layout.name(path))) for path in paths[:2])
        raise layout.refuse(f"{file_names} name different classes. Keep only one of these files.")
    source = repr(printable(paths[0].name))
    return _without_copies(layout, lists[0], source), source


def _without_copies(layout: BoxLayout, names: tuple[str, ...], source: str) -> tuple[str, ...]:
    """Return the names, which are those in `source`.

    Raises:
        DataError: a name occurs several times, so that it is unclear which number it has.
    """
    name, count = next(iter(Counter(names).most_common(1)), ("", 0))
    if count > 1:
        raise layout.refuse(
            f"{source} has {count} classes with the name {printable(name)!r}, but names must be "
            "different. Rename them, or use one number in the label files."
        )
    return names


class _SetReader:
    """Finds the part of each image by the folders and lists that a description names."""

    def __init__(
        self, layout: BoxLayout, description: YoloDescription, images: list[PlacedFile]
    ) -> None:
        self.layout, self.description, self.images = layout, description, images
        self.base, self.name = description.path.parent, printable(description.path.name)
        self.paths = {image.path for image in images}
        self.matcher = ImageMatcher(images)
        self.missing: list[Path] = []

    def place_images(self) -> list[PlacedFile]:
        """Return the images of all sets, each with its part; other images are left out.

        Raises:
            DataError: the training set is missing.
        """
        sets = {title: self._read_set(title) for title in self.description.sets}
        if not sets.get("train"):
            raise self.layout.refuse(
                f"{self.name!r} names no training images that are in the folder (train: "
                f"{', '.join(self.description.sets.get('train', [])) or 'is missing'}). Correct "
                "the entry."
            )
        for title in [title for title in sets if title != "train"]:
            if sets[title] and sets[title] != sets["train"]:
                continue
            reason = "the training images" if sets[title] else "no images that are in the folder"
            self.layout.notes.append(
                f"warning: {self.name!r} names {reason} as the {TITLES[title]} set, so another "
                "set is drawn from the training images."
            )
            del sets[title]
        titles: dict[Path, str] = {}
        several = list[Path]()
        for title, paths in sets.items():
            several += paths & titles.keys()
            titles |= dict.fromkeys(paths, title)
        if several:
            self.layout.problems.append(
                f"{counted(len(several), 'image')} {'is' if len(several) == 1 else 'are'} in "
                f"several sets of {self.name!r} ({self.layout.first(several)}). Keep each in one "
                "set."
            )
        nouns = ("entry of the lists", "entries of the lists")
        self.layout.set_aside(self.missing, NO_IMAGE, nouns, "no image")
        self.layout.leave_out(self.paths - titles.keys(), NOT_IN_A_SET)
        return [
            replace(image, part=titles[image.path]) for image in self.images if image.path in titles
        ]

    def _read_set(self, title: str) -> set[Path]:
        """Return the images of a set."""
        paths = set[Path]()
        for entry in self.description.sets[title]:
            candidates = [self.base / ending for ending in endings(self.description.folder, entry)]
            location = next((path for path in candidates if path.exists()), None)
            if location is not None and location.is_file():
                paths |= self._read_list(location)
            elif location is not None:
                start = f"{location.as_posix()}/"
                paths |= {path for path in self.paths if path.as_posix().startswith(start)}
        return paths

    def _read_list(self, path: Path) -> set[Path]:
        """Return the images of a list, a path in each line.

        Raises:
            DataError: the file cannot be read.
        """
        self.layout.use([path])
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"{printable(self.layout.name(path))!r} cannot be read. Save it as UTF-8 text."
            ) from error
        images = set[Path]()
        for line in filter(None, map(str.strip, lines)):
            matched = self.matcher.match(line, (self.base, path.parent))
            if len(matched) == 1:
                images.add(matched[0])
            else:
                self.missing.append(self.base / endings(line)[0])
        return images
