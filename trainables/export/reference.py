"""A classifier's record of its validation images, in its folder, to compare new images with them.

It has the class and the probabilities of up to 2,000 of them, but not the images themselves. With
folds there are no probabilities, because the networks were together trained on every image.

A model that was improved has also a record of images from before that (`EarlierImages`). Files of
earlier versions contain features of the images too, which are ignored.
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
"""To be raised when an array changes its meaning."""
IMAGES = 2000
"""The largest number of images in the record."""
SEED = 20
NAMES, LETTERS = 100_000, 16
"""The largest number of image names, and the letters that are stored of each. The names are SHA-256
digests, of which this many do not collide in 16 hex digits.
"""
PREFIX = "met_"
"""The prefix of the names of arrays that only an improved model has."""


@dataclass(frozen=True)
class EarlierImages:
    """Images that were recorded before a model was improved, as the improved model sees them."""

    probabilities: Probabilities
    """Its probabilities, (images, classes), for a random sample of those that could not join its
    training even if they were corrected; (0, classes) if there were too few.
    """
    labelled: Probabilities
    """Its probabilities for images of known class that it was not trained on, (images, classes)."""
    targets: NDArray[np.int64]
    """The class of each of these, (images,)."""
    luck: NDArray[np.float32]
    """How much of being right on each of these is likely luck, as it was selected for that."""
    trained: NDArray[np.bytes_]
    """The names of the recorded images that it was trained on, shortened (`short`)."""

    @cached_property
    def _trained(self) -> frozenset[bytes]:
        return frozenset(self.trained.tolist())

    def was_trained_on(self, image: str) -> bool:
        """True if the model was trained on the recorded image of this name."""
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
    earlier: EarlierImages | None = None
    """Images from before it was improved; None for a model that was not."""

    def pixels(self, path: Path) -> Images:
        """Decode a file as the classifier would, without loading the classifier.

        Raises:
            DataError: the file is not an image.
        """
        from trainables.export.predictor import MODES  # imports pandas

        height, width, channels = self.image
        return decode(path, (width, height), MODES[channels], self.value_range)


def sample(dataset: Dataset) -> NDArray[np.intp]:
    """Return the rows of the validation images to record, in random order.

    Therefore the first of them are a random sample too; data sets are often sorted by class.
    """
    return np.random.default_rng(SEED).permutation(len(dataset.val))[:IMAGES].astype(np.intp)


def write(folder: Path, dataset: Dataset, probabilities: Probabilities) -> None:
    """Write the reference into a classifier's folder.

    Args:
        folder: the classifier's.
        dataset: its data set.
        probabilities: its probabilities for the validation images of `sample`.
    """
    targets = np.asarray(dataset.val.targets)[sample(dataset)]
    answers = probabilities if dataset.folds is None else probabilities[:0]
    np.savez_compressed(
        folder / FILE,
        version=VERSION,
        targets=targets.astype(np.int64),
        probabilities=answers.astype(np.float32),
    )


def short(images: list[str]) -> NDArray[np.bytes_]:
    """Shorten the names of recorded images; if there are too many, keep the last."""
    return np.array([image[:LETTERS] for image in images[-NAMES:]], dtype=f"S{LETTERS}")


def add(folder: Path, earlier: EarlierImages) -> None:
    """Add images from before a model was improved to the reference in its folder.

    At most the first `IMAGES` of each kind are stored.
    """
    with np.load(folder / FILE, allow_pickle=False) as stored:
        plain = {name: stored[name] for name in stored if not name.startswith(PREFIX)}
    added = {
        "probabilities": earlier.probabilities[:IMAGES].astype(np.float32),
        "labelled": earlier.labelled[:IMAGES].astype(np.float32),
        "targets": earlier.targets[:IMAGES],
        "trained": earlier.trained[-NAMES:],
        "luck": earlier.luck[:IMAGES],
    }
    arrays: dict[str, Any] = {f"{PREFIX}{name}": values for name, values in added.items()}
    np.savez_compressed(folder / FILE, **plain, **arrays)


def read(folder: Path) -> Reference | None:
    """Return the reference in a classifier's folder.

    None if it has none, for example because an earlier version has promoted it.

    Raises:
        ConfigError: the task of the model is not classification.
        DataError: the file cannot be read, or has another version.
    """
    from trainables.export.predictor import DESCRIPTION

    description = json.loads(read_regular(folder / DESCRIPTION))
    if (task := description.get("task", DEFAULT_TASK)) != DEFAULT_TASK:
        raise ConfigError(f"this model is for {task}: only those for classification are watched.")
    if not (folder / FILE).exists():
        return None
    try:
        with np.load(folder / FILE, allow_pickle=False) as stored:
            version, targets, probabilities = (
                stored[name] for name in ("version", "targets", "probabilities")
            )
            earlier = _read_earlier(stored) if f"{PREFIX}trained" in stored else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{FILE} in '{folder}' cannot be read: promote it again.") from error
    if int(version) != VERSION:
        raise DataError(f"{FILE} in '{folder}' is of another version: promote it again.")
    return Reference(
        tuple(description["classes"]),
        tuple(description["image"]),
        tuple(description.get("value_range", SIXTEEN_BITS)),
        targets,
        probabilities.astype(np.float64),
        earlier,
    )


def _read_earlier(arrays: Mapping[str, NDArray[Any]]) -> EarlierImages:
    return EarlierImages(
        arrays[f"{PREFIX}probabilities"].astype(np.float64),
        arrays[f"{PREFIX}labelled"].astype(np.float64),
        arrays[f"{PREFIX}targets"],
        arrays[f"{PREFIX}luck"],
        arrays[f"{PREFIX}trained"],
    )
