"""A manifest: a CSV file in a bucket with the class of each image.

Its first line names the columns: `image`, the name of an object relative to the manifest's folder
or its whole address; `class`; and optionally `part`, which is `train`, `val` or `test`.
"""

import csv
import io
from collections.abc import Mapping

from cluster.storage.bucket import SCHEME, Bucket, ObjectFacts
from search.fetching.shards import file_name, is_class_name
from trainables.errors import ConfigError, printable

SUFFIX = ".csv"
COLUMNS = {
    "image": ("image", "file", "filename", "path"),
    "class": ("class", "label"),
    "part": ("part", "split", "set"),
}
"""The columns, each with the names that are accepted for it."""
PARTS = {"train": "train", "training": "train", "val": "val", "validation": "val", "test": "test"}
FIRST = 3
"""The number of images that a message names."""


def places(manifest: Bucket, content: bytes, objects: Mapping[str, ObjectFacts]) -> dict[str, str]:
    """Return the path that each image of a manifest gets in the copy, by the object's name.

    Args:
        manifest: the manifest's address, for messages and for the names of images.
        content: its content.
        objects: the objects below its folder.

    Raises:
        ConfigError: the manifest is not valid, or names images that do not exist.
    """
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig")), strict=True))
    except (UnicodeError, csv.Error) as error:
        raise ConfigError(f"{manifest} is not a CSV file in UTF-8: {error}.") from error
    columns = _columns(manifest, rows[0] if rows else [])
    folder = f"{str(manifest).rpartition('/')[0]}/"
    paths: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        cells = {name: row[at].strip() if at < len(row) else "" for name, at in columns.items()}
        name, class_name = cells["image"].removeprefix(folder), cells["class"]
        part = PARTS.get(cells.get("part", "").lower())
        if name in paths:
            fault = f"'{printable(name)}' is named twice"
        elif "part" in cells and part is None:
            fault = f"the part '{printable(cells['part'])}' is not train, val or test"
        else:
            fault = _fault_of(name, class_name, folder)
        if fault:
            raise ConfigError(f"{manifest}, line {number}: {fault}.")
        above = (part,) if part is not None else ()
        stem, dot, suffix = name.rpartition(".")
        file = f"{file_name(stem)}{dot}{suffix}" if "/" not in suffix else file_name(name)
        paths[name] = "/".join([*above, class_name, file])
    if missing := [name for name in paths if name not in objects]:
        names = ", ".join(printable(name) for name in missing[:FIRST])
        more = " ..." if len(missing) > FIRST else ""
        raise ConfigError(
            f"{len(missing):,} of the {len(paths):,} images in {manifest} do not exist below "
            f"{folder}: {names}{more}. Store them, or remove their lines."
        )
    return paths


def _fault_of(name: str, class_name: str, folder: str) -> str:
    """Return the reason why an image and its class cannot be used; empty if they can."""
    if not name:
        return "it has no image"
    if not is_class_name(class_name):
        return f"'{printable(class_name)}' cannot be the name of a class"
    return f"'{printable(name)}' is not below {folder}" if name.startswith(SCHEME) else ""


def _columns(manifest: Bucket, titles: list[str]) -> dict[str, int]:
    """Return the number of each column that the first line names.

    Raises:
        ConfigError: the column of images or that of classes is missing.
    """
    lower = [title.strip().lower() for title in titles]
    columns = {
        column: lower.index(name)
        for column, names in COLUMNS.items()
        for name in names[::-1]
        if name in lower
    }
    if missing := [column for column in ("image", "class") if column not in columns]:
        raise ConfigError(
            f"{manifest} has no column '{missing[0]}'. Its first line must name the columns: "
            f"image,class or image,class,part (got '{printable(','.join(titles)[:80])}')."
        )
    return columns
