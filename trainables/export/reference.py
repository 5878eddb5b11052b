"""A classifier's record of its validation images, kept in its folder: new ones are held to it.

It has the class and the probabilities of up to 2,000 of them; the images themselves are not kept.
Networks of folds have together seen every image, so what they say of them is left out.

A model that was improved by images that it met keeps besides what it met before (`Met`). Files that
earlier versions wrote have features of the images too, which are ignored.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.tasks import DEFAULT_TASK
from trainables.datasets.arrays import SIXTEEN_BITS, Dataset, Images
from trainables.datasets.images import ValueRange, decode
from trainables.disk import read_regular
from trainables.errors import ConfigError, DataError

Probabilities = NDArray[np.float64]

FILE = "reference.npz"
VERSION = 1
"""Changes when an array that is read changes its meaning."""
IMAGES = 2000
"""The largest number of images."""
SEED = 20
NAMES, LETTERS = 100_000, 16
"""The largest number of names of images, and the letters that are kept of each: no two of so many
SHA-256 are alike in 16.
"""
PREFIX = "met_"
"""The beginning of the names of the arrays that only a model that was improved has."""


@dataclass(frozen=True)
class Met:
    """Images that were met before a model was improved, as it sees them since."""

    probabilities: Probabilities
    """Its probabilities for a random sample of them that could not join its training, whoever had
    corrected them, (images, classes); of too few, none.
    """
    labelled: Probabilities
    """Its probabilities for images of known class that it was not trained on, (images, classes)."""
    targets: NDArray[np.int64]
    """The class of each of these, (images,)."""
    luck: NDArray[np.float32]
    """How much of being right on each of these is likely luck, since it was taken for that."""
    trained: NDArray[np.bytes_]
    """The names of the images among the records that it was trained on, shortened (`short`)."""

    @cached_property
    def _trained(self) -> frozenset[bytes]:
        return frozenset(self.trained.tolist())

    def was_trained_on(self, image: str) -> bool:
        """Return whether the model was trained on the image of this name among the records."""
        return image[:LETTERS].encode() in self._trained


@dataclass(frozen=True)
class Reference:
    """Validation images, as the classifier sees them."""

    classes: tuple[str, ...]
    image: tuple[int, int, int]
    """(height, width, channels) of the images that it was trained with."""
    value_range: ValueRange
    """The values that become 0 and 255 in images of more than 8 bits."""
    targets: NDArray[np.int64]
    """The class of each image, (images,)."""
    probabilities: Probabilities
    """The classifier's probabilities for each image, (images, classes); (0, classes) with folds."""
    met: Met | None = None
    """What was met before it was improved; None of a model that was not."""

    def pixels(self, path: Path) -> Images:
        """Return a file's pixels as the classifier gets them, without loading it.

        Raises:
            DataError: it is no image.
        """
        from trainables.export.predictor import MODES  # which imports pandas

        height, width, channels = self.image
        return decode(path, (width, height), MODES[channels], self.value_range)


def sample(dataset: Dataset) -> NDArray[np.intp]:
    """Return the rows of the validation images that are kept, in random order.

    So the first of them are a sample too; data sets often have one class after another.
    """
    return np.random.default_rng(SEED).permutation(len(dataset.val))[:IMAGES].astype(np.intp)


def write(folder: Path, dataset: Dataset, probabilities: Probabilities) -> None:
    """Write the reference into a classifier's folder.

    Args:
        folder: the classifier's.
        dataset: its data set.
        probabilities: what it says of the validation images that `sample` names.
    """
    targets = np.asarray(dataset.val.targets)[sample(dataset)]
    known = probabilities if dataset.folds is None else probabilities[:0]
    np.savez_compressed(
        folder / FILE,
        version=VERSION,
        targets=targets.astype(np.int64),
        probabilities=known.astype(np.float32),
    )


def short(images: list[str]) -> NDArray[np.bytes_]:
    """Return the names of images among the records as they are kept; of too many the last."""
    return np.array([image[:LETTERS] for image in images[-NAMES:]], dtype=f"S{LETTERS}")


def add(folder: Path, met: Met) -> None:
    """Add what was met before a model was improved to the reference in its folder.

    Of each kind at most `IMAGES` are kept, the first ones.
    """
    with np.load(folder / FILE, allow_pickle=False) as kept:
        plain = {name: kept[name] for name in kept if not name.startswith(PREFIX)}
    added = {
        "probabilities": met.probabilities[:IMAGES].astype(np.float32),
        "labelled": met.labelled[:IMAGES].astype(np.float32),
        "targets": met.targets[:IMAGES],
        "trained": met.trained[-NAMES:],
        "luck": met.luck[:IMAGES],
    }
    arrays: dict[str, Any] = {f"{PREFIX}{name}": values for name, values in added.items()}
    np.savez_compressed(folder / FILE, **plain, **arrays)


def read(folder: Path) -> Reference | None:
    """Return the reference in a classifier's folder.

    None where there is none, as of a model that an earlier version has promoted.

    Raises:
        ConfigError: the model is for another task.
        DataError: it cannot be read, or another version has written it.
    """
    from trainables.export.predictor import ABOUT

    about = json.loads(read_regular(folder / ABOUT))
    if (task := about.get("task", DEFAULT_TASK)) != DEFAULT_TASK:
        raise ConfigError(f"this model is for {task}: only those for classification are watched.")
    if not (folder / FILE).exists():
        return None
    try:
        with np.load(folder / FILE, allow_pickle=False) as kept:
            version, targets, probabilities = (
                kept[name] for name in ("version", "targets", "probabilities")
            )
            met = _met(kept) if f"{PREFIX}trained" in kept else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{FILE} in '{folder}' cannot be read: promote it again.") from error
    if int(version) != VERSION:
        raise DataError(f"{FILE} in '{folder}' is of another version: promote it again.")
    return Reference(
        tuple(about["classes"]),
        tuple(about["image"]),
        tuple(about.get("value_range", SIXTEEN_BITS)),
        targets,
        probabilities.astype(np.float64),
        met,
    )


def _met(kept: Mapping[str, NDArray[Any]]) -> Met:
    """Return what a file has of the images that were met before."""
    return Met(
        kept[f"{PREFIX}probabilities"].astype(np.float64),
        kept[f"{PREFIX}labelled"].astype(np.float64),
        kept[f"{PREFIX}targets"],
        kept[f"{PREFIX}luck"],
        kept[f"{PREFIX}trained"],
    )
