"""Files that name classes: one name a line, or names with their colours.

`classes.txt` has the name of one class in each line. `classes.csv` and `class_dict.csv` (CamVid)
have a name and three levels of colour, `labelmap.txt` (CVAT) has lines `name:r,g,b:parts:actions`.
"""

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.errors import DataError, printable
from trainables.tasks.segmentation.values import MAX_CLASSES

NAMES_FILES = {"classes.txt"}
CSV_FILES = {"classes.csv", "class_dict.csv"}
COLOUR_FILES = {*CSV_FILES, "labelmap.txt"}
TABLE_FILES = {*NAMES_FILES, *COLOUR_FILES}

Codes = NDArray[np.int64]
"""Colours as numbers: red * 65536 + green * 256 + blue."""


@dataclass(frozen=True)
class ClassTable:
    """The names of the classes, in the order of their numbers."""

    source: str
    """The file's name."""
    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...] = ()
    """The colour of each class; empty if the file has only names."""

    @cached_property
    def codes(self) -> Codes:
        """The colour of each class, (classes,)."""
        return codes_of(np.array(self.colours, np.uint8))

    def nearest(self, colour: tuple[int, int, int]) -> str:
        """Return the name and the colour of the class with the most similar colour."""
        distances = np.square(np.array(self.colours) - colour).sum(axis=1)
        number = int(distances.argmin())
        return f"{printable(self.names[number])!r} {self.colours[number]}"


def codes_of(colours: NDArray[np.uint8]) -> Codes:
    """Encode colours, uint8 (..., 3), as numbers, int64 (...)."""
    codes: Codes = colours.astype(np.int64) @ np.array([65536, 256, 1])
    return codes


def colour_of(code: int) -> tuple[int, int, int]:
    """Return the (red, green, blue) that a number encodes."""
    return code // 65536, code // 256 % 256, code % 256


def read_table(path: Path) -> ClassTable:
    """Read the names, and the colours if there are some, of the classes.

    Raises:
        DataError: the file is empty or damaged, or two classes have one name or colour.
    """
    quoted = repr(printable(path.name))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{quoted} cannot be read ({error}). Save it as UTF-8 text.") from error
    colours: list[tuple[int, int, int]] = []
    if path.name.lower() in NAMES_FILES:
        names = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        rows = _csv_rows(text) if path.name.lower() in CSV_FILES else _labelmap_rows(text)
        names = []
        for number, cells in rows:
            names.append(cells[0].strip())
            colours.append(_colour(cells[1:], f"{quoted}, line {number}"))
    for texts, noun in ((names, "name"), ([str(colour) for colour in colours], "colour")):
        if repeated := [text for text in texts if texts.count(text) > 1]:
            raise DataError(
                f"{quoted} has two classes with the {noun} {repeated[0]!r}. "
                f"Each class needs its own {noun}."
            )
    if not 0 < len(names) <= MAX_CLASSES:
        raise DataError(f"{quoted} has {len(names)} classes; 1 to {MAX_CLASSES} are allowed.")
    return ClassTable(path.name, tuple(names), tuple(colours))


def _csv_rows(text: str) -> list[tuple[int, list[str]]]:
    """Return the numbered lines of a table; a first line without any digit is its header."""
    rows = [(number, row) for number, row in enumerate(csv.reader(text.splitlines()), 1) if row]
    has_header = bool(rows) and not any(cell.strip().isdigit() for cell in rows[0][1])
    return rows[has_header:]


def _labelmap_rows(text: str) -> list[tuple[int, list[str]]]:
    """Return the numbered lines of a label map as (name, red, green, blue)."""
    lines = [(number, line.split(":")) for number, line in enumerate(text.splitlines(), 1)]
    return [
        (number, [fields[0], *(fields[1].split(",") if len(fields) > 1 else [])])
        for number, fields in lines
        if fields[0].strip() and not fields[0].startswith("#")
    ]


def _colour(cells: list[str], place: str) -> tuple[int, int, int]:
    try:
        red, green, blue = (int(cell) for cell in cells)
    except ValueError:
        red = green = blue = -1
    if not all(0 <= level <= 255 for level in (red, green, blue)):
        raise DataError(
            f"{place}: the colour of a class must be three numbers from 0 to 255 (red, green, "
            f"blue) after its name (got {printable(', '.join(cells)[:60])!r})."
        )
    return red, green, blue
