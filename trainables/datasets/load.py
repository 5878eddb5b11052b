"""From a `DataConfig` to a split `Dataset`, decoding each data set once.

Decoded arrays are kept under `cache_folder()` by a key over the files' names, sizes and times, so the second search on a folder of
images starts at once. A changed, added or removed file gives another key.
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainables.caches import cache_folder
from trainables.config import DataConfig
from trainables.datasets.arrays import Dataset, Decoded, Part
from trainables.datasets.registry import DATASETS
from trainables.datasets.splits import split_off
from trainables.errors import DataError

CACHE_VERSION = 2
"""Raised when decoding changes, so that arrays decoded before are not taken."""


def load(config: DataConfig, *, download: bool = False) -> Dataset:
    """Decode (or find decoded), check and split a data set.

    Raises:
        DataError: images or labels that cannot be used.
        Unavailable: files that are not there.
    """
    decoded = _cached(config, download=download)
    _check_classes(decoded)
    dataset = split(decoded, config)
    _check_folds(dataset)
    return dataset


def split(decoded: Decoded, config: DataConfig) -> Dataset:
    """Test part (unless given), then validation part (unless there are folds), then `train_limit`; each drawn from `config.split_seed`."""
    generator = np.random.default_rng(config.split_seed)
    train, test = decoded.train, decoded.test
    if test is None:
        rest, drawn = split_off(train.labels, round(config.test_fraction * len(train)), generator)
        train, test = train.take(rest), train.take(drawn)
    val: Part | None = None
    if config.folds is None:
        wanted = round(config.val_fraction * len(decoded.train))
        rest, drawn = split_off(train.labels, min(wanted, config.val_limit), generator)
        train, val = train.take(rest), train.take(drawn)
    if config.train_limit is not None and config.train_limit < len(train):
        _, kept = split_off(train.labels, config.train_limit, generator, left=0)
        train = train.take(kept)
    facts = decoded.fingerprint, decoded.skipped, config.folds, config.split_seed
    return Dataset(config.name, decoded.classes, train, train if val is None else val, test, *facts)


def _check_classes(decoded: Decoded) -> None:
    """Every class must reach every part that is drawn from the training images."""
    if len(decoded.classes) < 2:
        raise DataError(f"only one class found ({decoded.classes[0]!r}). A classifier needs two or more.")
    least = 2 if decoded.test is not None else 3
    parts = "a training and a validation image" if least == 2 else "a training, a validation and a test image"
    for part in (decoded.train, decoded.test):
        if part is not None and (len(part.images) != len(part.labels) or part.labels.max(initial=0) >= len(decoded.classes)):
            raise DataError(
                f"{len(part.images)} images, {len(part.labels)} labels and {len(decoded.classes)} classes do not fit together. The files are damaged."
            )
    counts: list[int] = np.bincount(decoded.train.labels, minlength=len(decoded.classes)).tolist()
    for name, count in zip(decoded.classes, counts, strict=True):
        if count < least:
            raise DataError(f"class {name!r} has {count} image{'s' * (count != 1)}; each class needs {parts}. Add images or remove the class.")


def _check_folds(dataset: Dataset) -> None:
    """Every class must be in every fold."""
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.classes))
    name, count = dataset.classes[counts.argmin()], int(counts.min())
    if dataset.folds is not None and count < dataset.folds:
        remedy = f"Use --folds {count}" if count > 1 else "Leave --folds out"
        raise DataError(f"class {name!r} has {count} image{'s' * (count != 1)} to train on; each of {dataset.folds} folds needs one. {remedy}, or add images.")


def _cached(config: DataConfig, *, download: bool) -> Decoded:
    entry = DATASETS[config.name]
    files = [] if download else entry.files(config)
    if not files:
        return entry.load(config, download=download)
    folder = cache_folder() / _key(config, files)
    try:
        return _read(folder)
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        decoded = entry.load(config)
        _write(folder, decoded)
        return decoded


def _key(config: DataConfig, files: list[Path]) -> str:
    digest = hashlib.sha256(json.dumps([CACHE_VERSION, config.name, str(Path(config.root).resolve()), config.image_size, config.skip_bad]).encode())
    for path in files:
        status = path.stat() if path.exists() else path.lstat()
        digest.update(os.fsencode(path) + f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:32]


def _read(folder: Path) -> Decoded:
    """Map the arrays of a cache entry; ValueError or OSError when it is not there or not as it was written."""
    entry = json.loads((folder / "entry.json").read_text())
    classes, parts = tuple(entry["classes"]), {}
    for name in entry["parts"]:
        images = np.load(folder / f"{name}-images.npy", mmap_mode="r", allow_pickle=False)
        parts[name] = Part(images, np.load(folder / f"{name}-labels.npy", allow_pickle=False))
    decoded = Decoded(classes, parts["train"], parts.get("test"), entry["skipped"])
    if decoded.fingerprint != entry["fingerprint"]:
        raise ValueError(f"{folder} is damaged")
    return decoded


def _write(folder: Path, decoded: Decoded) -> None:
    """Write an entry beside its place and move it there whole. A cache that cannot be written is done without."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            new = Path(temporary) / "entry"
            new.mkdir()
            for name, part in (("train", decoded.train), ("test", decoded.test)):
                if part is not None:
                    np.save(new / f"{name}-images.npy", part.images, allow_pickle=False)
                    np.save(new / f"{name}-labels.npy", part.labels, allow_pickle=False)
            parts = ["train"] + ["test"] * (decoded.test is not None)
            entry = {"classes": decoded.classes, "parts": parts, "skipped": decoded.skipped, "fingerprint": decoded.fingerprint}
            (new / "entry.json").write_text(json.dumps(entry))
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)
    except OSError:
        return


def with_root(config: DataConfig, source: str, root: str) -> DataConfig:
    """The config for `--data SOURCE`: a data set's name, or `folder:PATH`, whose path becomes the root."""
    name, _, path = source.partition(":")
    if name == "folder":
        return replace(config, name="folder", root=str(Path(path or ".").expanduser()))
    return replace(config, name=source, root=str(Path(root).expanduser()) if root else "")
