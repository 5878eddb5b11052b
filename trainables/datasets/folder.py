"""A folder of images: one sub-folder a class, directly under the root or under `train/` and `test/`.

Images keep their own size when they all have one (of at most 224 pixels a side); otherwise they are resized to 224 x 224, as in the
paper, or to `data.image_size`. They stay grey when all of them are grey.
"""

import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from trainables.config import DataConfig
from trainables.datasets.arrays import Decoded, Images, Part
from trainables.datasets.images import SUFFIXES, decode, open_image
from trainables.errors import DataError, is_text, printable

DEFAULT_SIDE = 224
GREY_MODES = {"1", "L", "LA", "I;16"}


def files(config: DataConfig) -> list[Path]:
    """Every image file, in order."""
    return [path for part in _parts(config).values() for _, path in part]


def load(config: DataConfig, *, download: bool) -> Decoded:
    """Decode every image; the unreadable ones are refused, all at once, or with `skip_bad` left out and counted."""
    parts = _parts(config)
    paths = [path for part in parts.values() for _, path in part]
    classes = sorted({name for part in parts.values() for name, _ in part})
    results = _read_all(paths, config.image_size)
    errors = {path: result for path, result in results.items() if isinstance(result, DataError)}
    if errors and not config.skip_bad:
        raise _unreadable(config, errors)
    images = {path: result for path, result in results.items() if not isinstance(result, DataError)}
    made = {title: _part([(classes.index(name), images[path]) for name, path in part if path in images], title) for title, part in parts.items()}
    return Decoded(tuple(classes), made["train"], made.get("test"), len(errors))


def _read_all(paths: list[Path], wanted: int | None) -> dict[Path, Images | DataError]:
    """Each image, in one form, or why it cannot be read. What Pillow would warn of is read, or is an error with its file's name."""
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(os.cpu_count()) as pool:
        size, mode = _common_form(_headers(paths), wanted)
        return dict(zip(paths, pool.map(lambda path: _attempt(path, size, mode), paths), strict=True))


def _part(rows: list[tuple[int, Images]], title: str) -> Part:
    if not rows:
        raise DataError(f"no image of the {title} part can be read.")
    return Part(np.stack([image for _, image in rows]), np.array([number for number, _ in rows], dtype=np.int64))


def _parts(config: DataConfig) -> dict[str, list[tuple[str, Path]]]:
    """(class, path) of each image, by part: `train` and, if there is one, `test`."""
    root = Path(config.root)
    try:
        if not root.is_dir():
            raise DataError(f"data set folder not found: {str(root)!r} (--data folder:PATH). Expected one sub-folder per class.")
        return _found(root)
    except OSError as error:
        raise DataError(f"data set folder {str(root)!r} cannot be read ({error.strerror}).") from error


def _found(root: Path) -> dict[str, list[tuple[str, Path]]]:
    if not (root / "train").is_dir():
        return {"train": list(_walk(root))}
    parts = {name: list(_walk(root / name)) for name in ("train", "test") if (root / name).is_dir()}
    if "test" in parts and {name for name, _ in parts["test"]} - {name for name, _ in parts["train"]}:
        extra = sorted({name for name, _ in parts["test"]} - {name for name, _ in parts["train"]})
        raise DataError(f"class {extra[0]!r} is in {str(root / 'test')!r} but not in {str(root / 'train')!r}. Each class needs training images.")
    return parts


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise DataError(f"no class folders in {str(root)!r}. Expected one sub-folder per class, holding its images.")
    for folder in folders:
        if not is_text(folder.name):
            raise DataError(f"the name of class folder {str(folder)!r} is not UTF-8. Rename it.")
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and _is_wanted(path, folder))
        if not paths:
            raise DataError(f"class folder {str(folder)!r} holds no images. Allowed: {', '.join(sorted(SUFFIXES))}.")
        yield from ((folder.name, path) for path in paths)


def _is_wanted(path: Path, folder: Path) -> bool:
    """Not hidden, and a file or a link that leads nowhere, which is told of as unreadable; a pipe would wait for ever."""
    return not any(part.startswith(".") for part in path.relative_to(folder).parts) and (path.is_file() or not path.exists())


def _headers(paths: list[Path]) -> list[tuple[tuple[int, int], str]]:
    """(width, height) and mode of each readable file; the unreadable are found again, and named, when they are decoded."""
    found = []
    for path in paths:
        try:
            with open_image(path) as image:
                turned = image.format != "TIFF" and image.getexif().get(0x0112) in (5, 6, 7, 8)
                found.append((image.size[::-1] if turned else image.size, image.mode))
        except (DataError, OSError, SyntaxError, ValueError, TypeError):
            continue
    return found


def _common_form(headers: list[tuple[tuple[int, int], str]], wanted: int | None) -> tuple[tuple[int, int], str]:
    """The (width, height) and mode that every image is brought to."""
    mode = "L" if headers and all(mode in GREY_MODES for _, mode in headers) else "RGB"
    if wanted is not None:
        return (wanted, wanted), mode
    sizes = {size for size, _ in headers}
    if len(sizes) == 1 and max(next(iter(sizes))) <= DEFAULT_SIDE:
        return next(iter(sizes)), mode
    return (DEFAULT_SIDE, DEFAULT_SIDE), mode


def _attempt(path: Path, size: tuple[int, int], mode: str) -> Images | DataError:
    try:
        return decode(path, size, mode)
    except DataError as error:
        return error


def _unreadable(config: DataConfig, errors: dict[Path, DataError]) -> DataError:
    first, reason = next(iter(errors.items()))
    name = printable(str(first.relative_to(config.root)))
    return DataError(f"{len(errors)} unreadable image{'s' * (len(errors) != 1)} (first: {name}: {reason}). Remove them, or leave them out with --skip-bad.")
