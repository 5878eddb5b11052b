"""A folder of images, with one sub-folder for each class.

The classes are directly under the root, or under `train/`, `val/` and `test/` (see `parts`).
If all images have the same size, of at most 224 x 224 pixels, they keep it. Otherwise all are
resized to 224 x 224, the usual size for ImageNet's networks. `data.image_size` overrides this rule.
If the decoded images fit neither into the cache nor into memory, they are decoded again whenever
they are used (`Encoded`).
"""

import math
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.config import DataConfig
from trainables.datasets.arrays import (
    CHUNK,
    SIXTEEN_BITS,
    TITLES,
    Allocate,
    Arrays,
    DataDigest,
    Decoded,
    Images,
    NoRoom,
    Part,
    in_memory,
)
from trainables.datasets.folder import (
    FolderFindings,
    ImageForm,
    common_form,
    describe_files,
    describe_range,
    find_dark,
    find_layout,
    find_value_range,
    list_left_out,
    list_unreadable,
)
from trainables.datasets.images import decode_telling, files_to_decode, header
from trainables.datasets.layout import Layout, Members, layout_error
from trainables.errors import DataError
from trainables.machine import processors
from trainables.on_disk import Encoded, stamp_of
from trainables.progress import step
from trainables.tasks.classification.parts import layout_of


def recognise(root: Path) -> str:
    """Return an empty string: folders that no other task recognises are read as classes."""
    return ""


def find(config: DataConfig) -> Layout:
    """Find the images of the folder that `config.root` names.

    Raises:
        DataError: the folder is missing, unreadable, ambiguous or has no images.
    """
    return find_layout(config, layout_of, "one sub-folder per class")


def load(
    config: DataConfig, *, download: bool, layout: Layout, allocate: Allocate = in_memory
) -> Decoded:
    """Decode every image that `find` found; all problems are listed in one `DataError`."""
    parts, paths, findings = layout.parts, layout.paths, FolderFindings()
    classes = sorted({name for part in parts.values() for name, _ in part})
    problems, value_range = list(layout.problems), None
    # Images that Pillow warns of are read anyway, or reported as errors with the file's name.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(processors()) as pool:
        with step("reading the headers of images"):
            headers = zip(paths, pool.map(header, paths), strict=True)
            findings.headers = {path: each for path, each in headers if each}
        try:
            value_range = find_value_range(layout, findings.headers, pool.map)
        except DataError as error:
            problems.append(str(error))
        form = common_form(findings.headers.values(), config.image_size, value_range)
        arrays = _allocate_all(parts, form.shape, allocate)
        fingerprint = ""
        if arrays:
            _decode_all(layout, arrays, form, findings, pool)
        else:
            fingerprint = _check_all(layout, classes, form, findings, pool)
    problems += [
        *find_dark(layout, findings),
        *list_unreadable(layout, findings, are_skipped=config.skip_bad),
    ]
    if problems:
        raise layout_error(problems)
    encoded = partial(_encoded, layout, findings, form)
    whole = {
        title: _part(
            partial(_without_gaps, arrays[title]) if arrays else encoded,
            layout,
            classes,
            findings.errors,
            title,
        )
        for title in parts
    }
    decoded = Decoded(
        tuple(classes),
        whole["train"],
        whole.get("test"),
        len(findings.errors),
        val=whole.get("val"),
        value_range=value_range,
        remarks=(
            *describe_range(whole.values(), findings.headers.values(), value_range),
            *describe_files(layout, findings, form.size),
        ),
        left_out=tuple(list_left_out(layout, findings)),
    )
    if fingerprint:
        decoded.__dict__["fingerprint"] = fingerprint  # a `cached_property`
    return decoded


def _decode_all(
    layout: Layout,
    arrays: dict[str, Images],
    form: ImageForm,
    findings: FolderFindings,
    pool: ThreadPoolExecutor,
) -> None:
    """Decode all images into the arrays of their parts."""

    def fill(images: Images, row: int, path: Path) -> None:
        pixels = _decode(path, form, findings)
        if pixels is not None:
            images[row] = pixels
        advance()

    with step("decoding images", len(layout.paths)) as advance:
        for title, members in layout.parts.items():
            each = [path for _, path in members]
            list(pool.map(fill, [arrays[title]] * len(each), range(len(each)), each))


def _check_all(
    layout: Layout,
    classes: list[str],
    form: ImageForm,
    findings: FolderFindings,
    pool: ThreadPoolExecutor,
) -> str:
    """Decode all images only to check them, and return the fingerprint of the data.

    It is empty if an image cannot be read, since the fingerprint depends on how many can.
    """

    def check(path: Path) -> Images | None:
        with suppress(OSError):  # of a missing file, which cannot be decoded, either
            findings.stamps[path] = stamp_of(path)
        pixels = _decode(path, form, findings)
        advance()
        return pixels

    digest = DataDigest(classes, form.value_range)
    count = max(processors(), CHUNK // math.prod(form.shape))
    with step("decoding images", len(layout.paths)) as advance:
        for title in (title for title in TITLES if title in layout.parts):
            each = [path for _, path in layout.parts[title]]
            digest.begin(title, (len(each), *form.shape))
            chunks = (
                pool.map(check, each[first : first + count]) for first in range(0, len(each), count)
            )
            # The next chunk is being decoded while one is added.
            for chunk, _ in pairwise(chain(chunks, [()])):
                for pixels in chunk:
                    if pixels is not None:
                        digest.add(pixels)
            digest.end((), _targets(layout.parts[title], classes))
    return "" if findings.errors else digest.fingerprint


def _decode(path: Path, form: ImageForm, findings: FolderFindings) -> Images | None:
    """Decode an image, and record an error or peculiarity; None if it cannot be read."""
    try:
        pixels, was_transparent = decode_telling(
            path, form.size, form.mode, form.value_range or SIXTEEN_BITS
        )
    except DataError as error:
        findings.errors[path] = error
        return None
    findings.note(path, pixels, was_transparent=was_transparent)
    return pixels


def _allocate_all(
    parts: dict[str, Members], shape: tuple[int, ...], allocate: Allocate
) -> dict[str, Images]:
    """Allocate the arrays of all parts; empty if their images are decoded whenever they are used.

    Then they are decoded now only to check them.
    """
    try:
        return {title: allocate(title, (len(members), *shape)) for title, members in parts.items()}
    except NoRoom:
        return {}


def _part(
    images: Callable[[list[int], list[Path]], Arrays],
    layout: Layout,
    classes: list[str],
    errors: dict[Path, DataError],
    title: str,
) -> Part:
    """Return a part without the unreadable images.

    Args:
        images: returns the images of the readable files, whose rows in the part and paths it gets.
        layout: the layout of the folder.
        classes: the names of all classes.
        errors: the unreadable files.
        title: the part's name.

    Raises:
        DataError: no image of the part can be read.
    """
    members = layout.parts[title]
    rows = [row for row, (_, path) in enumerate(members) if path not in errors]
    if not rows:
        raise DataError(
            f"no image of the {TITLES[title]} set can be read. Check the files of this set."
        )
    return Part(
        images(rows, [members[row][1] for row in rows]),
        _targets([members[row] for row in rows], classes),
        tuple(layout.name(members[row][1]) for row in rows),
    )


def _targets(members: Members, classes: list[str]) -> NDArray[np.int64]:
    """Return the numbers of the members' classes."""
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[name] for name, _ in members], dtype=np.int64)


def _without_gaps(images: Images, rows: list[int], paths: list[Path]) -> Images:
    """Return these rows of an array, in which they are moved forward in place."""
    for place, row in enumerate(rows):
        if place != row:
            images[place] = images[row]
    return images[: len(rows)] if len(rows) < len(images) else images


def _encoded(
    layout: Layout,
    findings: FolderFindings,
    form: ImageForm,
    rows: list[int],
    paths: list[Path],
) -> Encoded:
    """Return the images of these files, which are decoded whenever they are used."""
    names = [layout.name(path) for path in paths]
    stamps = np.array([findings.stamps[path] for path in paths])
    return Encoded.whole(files_to_decode(layout.root, names, stamps, form.shape, form.value_range))
