"""A folder of images: one sub-folder a class, directly under the root or under `train/` and `test/`.

Images keep their own size when they all have one (of at most 224 pixels a side); otherwise they are resized to 224 x 224, as in the
paper, or to `data.image_size`. They stay grey when all of them are grey.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from trainables.config import DataConfig
from trainables.datasets.arrays import Decoded, Part
from trainables.datasets.images import SUFFIXES, decode, open_image
from trainables.errors import DataError

DEFAULT_SIDE = 224
GREY_MODES = {"1", "L", "LA", "I;16"}


def files(config: DataConfig) -> list[Path]:
    """Every image file, in order."""
    return [path for part in _parts(config).values() for _, path in part]


def load(config: DataConfig, *, download: bool) -> Decoded:
    """Decode every image; all unreadable ones are counted before anything is trained."""
    parts = _parts(config)
    paths = [path for part in parts.values() for _, path in part]
    size, mode = _common_form(_headers(paths), config.image_size)
    classes = sorted({name for part in parts.values() for name, _ in part})
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda path: _attempt(path, size, mode), paths))
    _refuse_unreadable(config, {path: result for path, result in zip(paths, results, strict=True) if isinstance(result, DataError)})
    images = iter(results)
    made = [Part(np.stack([next(images) for _ in part]), np.array([classes.index(name) for name, _ in part], dtype=np.int64)) for part in parts.values()]  # type: ignore[misc]
    return Decoded(tuple(classes), *made)


def _parts(config: DataConfig) -> dict[str, list[tuple[str, Path]]]:
    """(class, path) of each image, by part: `train` and, if there is one, `test`."""
    root = Path(config.root)
    if not root.is_dir():
        raise DataError(f"data set folder not found: '{root}' (--data folder:PATH). Expected one sub-folder per class.")
    if not (root / "train").is_dir():
        return {"train": list(_walk(root))}
    parts = {name: list(_walk(root / name)) for name in ("train", "test") if (root / name).is_dir()}
    if "test" in parts and {name for name, _ in parts["test"]} - {name for name, _ in parts["train"]}:
        extra = sorted({name for name, _ in parts["test"]} - {name for name, _ in parts["train"]})
        raise DataError(f"class '{extra[0]}' is in '{root / 'test'}' but not in '{root / 'train'}'. Each class needs training images.")
    return parts


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise DataError(f"no class folders in '{root}'. Expected one sub-folder per class, holding its images.")
    for folder in folders:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not _is_hidden(path.relative_to(folder)))
        if not paths:
            raise DataError(f"class folder '{folder}' holds no images. Allowed: {', '.join(sorted(SUFFIXES))}.")
        yield from ((folder.name, path) for path in paths)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


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


def _attempt(path: Path, size: tuple[int, int], mode: str) -> object:
    try:
        return decode(path, size, mode)
    except DataError as error:
        return error


def _refuse_unreadable(config: DataConfig, errors: dict[Path, DataError]) -> None:
    if errors:
        first, reason = next(iter(errors.items()))
        name = first.relative_to(config.root)
        raise DataError(f"{len(errors)} unreadable image{'s' * (len(errors) != 1)} (first: {name}: {reason}). Remove or replace them.")
