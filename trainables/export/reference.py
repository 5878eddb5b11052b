"""A classifier's predictions for its validation images, with which new images are compared.

The reference is a file in the classifier's folder. It has the true class and the predicted
probabilities of up to 2,000 validation images, but not the images themselves. With folds it has no
probabilities, because the networks together were trained on every image.

For an improved model, it also has predictions for images that were recorded before the improvement
(`EarlierImages`). Files of earlier versions contain features of the images too, which are ignored.
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

from trainables.catalog.entries import CAPABILITIES
from trainables.datasets.arrays import SIXTEEN_BITS, Dataset, Images
from trainables.datasets.images import ValueRange, decode
from trainables.disk import read_regular
from trainables.errors import ConfigError, DataError
from trainables.tasks import TASKS, task_name

Probabilities = NDArray[np.float64]

FILE = "reference.npz"
VERSION = 1
"""Increment this when the meaning of an array changes."""
IMAGES = 2000
"""The maximum number of images in the file."""
SEED = 20
NAMES, LETTERS = 100_000, 16
"""The maximum number of image names, and the number of characters that are stored of each.

The names are SHA-256 digests in hex. Among 100,000 names, the first 16 digits are unique in
practice.
"""
PREFIX = "met_"
"""The prefix of the arrays that only an improved model has."""


@dataclass(frozen=True)
class EarlierImages:
    """Images recorded before the model was improved, with the improved model's predictions."""

    probabilities: Probabilities
    """Class probabilities, (images, classes), for a random sample of recorded images.

    The sample is drawn from the images that are kept out of training, even if they are corrected.
    The array is (0, classes) if there were too few such images.
    """
    labelled: Probabilities
    """Class probabilities, (images, classes), for images of known class that were not trained on.
    """
    targets: NDArray[np.int64]
    """The class of each labelled image, (images,)."""
    luck: NDArray[np.float32]
    """For each labelled image, the likely share of luck in its correct prediction, (images,).

    The model was selected by these images, so that its accuracy on them is likely too high. A
    correct prediction counts as 1 minus this value. The mean of the values is the likely excess of
    the accuracy.
    """
    trained: NDArray[np.bytes_]
    """The shortened names (`short`) of the recorded images that the model was trained on."""

    @cached_property
    def _trained(self) -> frozenset[bytes]:
        return frozenset(self.trained.tolist())

    def was_trained_on(self, image: str) -> bool:
        """True if the model was trained on the recorded image with this (full) name."""
        return image[:LETTERS].encode() in self._trained


@dataclass(frozen=True)
class Reference:
    """The classes and probabilities of validation images, and the classifier's input format."""

    classes: tuple[str, ...]
    image: tuple[int, int, int]
    """The shape of the training images, (height, width, channels)."""
    value_range: ValueRange
    """The pixel values that are mapped to 0 and 255 in images of more than 8 bits."""
    targets: NDArray[np.int64]
    """The true class of each image, (images,)."""
    probabilities: Probabilities
    """The classifier's probabilities for each image, (images, classes); (0, classes) with folds."""
    earlier: EarlierImages | None = None
    """Images from before the model was improved; None if it was never improved."""

    def pixels(self, path: Path) -> Images:
        """Decode an image file as the classifier would, without loading the classifier.

        Raises:
            DataError: the file is not an image.
        """
        from trainables.predictors.base import MODES

        height, width, channels = self.image
        return decode(path, (width, height), MODES[channels], self.value_range)


def sample(dataset: Dataset) -> NDArray[np.intp]:
    """Choose at most `IMAGES` validation images for the reference; return their rows.

    The rows are in random order, so that the first ones are a random sample too, although data sets
    are often sorted by class.
    """
    return np.random.default_rng(SEED).permutation(len(dataset.val))[:IMAGES].astype(np.intp)


def write(folder: Path, dataset: Dataset, probabilities: Probabilities) -> None:
    """Write the reference into a classifier's folder.

    Args:
        folder: the classifier's folder.
        dataset: the data set on which the classifier was trained.
        probabilities: the classifier's probabilities for the rows that `sample` returns.
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
    """Shorten image names to `LETTERS` characters, and keep only the last `NAMES` of them."""
    return np.array([image[:LETTERS] for image in images[-NAMES:]], dtype=f"S{LETTERS}")


def add(folder: Path, earlier: EarlierImages) -> None:
    """Add images from before the model was improved to the reference in its folder.

    They replace the images of an earlier improvement. At most the first `IMAGES` images of each
    kind, and the last `NAMES` names, are stored.
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


def check_monitored(task: str) -> None:
    """Check that the answers of models of a task can be monitored.

    Raises:
        ConfigError: they cannot.
    """
    if task not in TASKS or "feedback" not in TASKS[task].can:
        raise ConfigError(
            f"this model is for {task}, and cannot be monitored: {CAPABILITIES['feedback']}."
        )


def read(folder: Path) -> Reference | None:
    """Read the reference in a classifier's folder.

    The result is None if the folder has none, for example because an earlier version of this
    project promoted the model.

    Raises:
        ConfigError: the predictions of the model's task cannot be corrected.
        DataError: the file cannot be read, or has another version.
    """
    from trainables.predictors.base import DESCRIPTION

    description = json.loads(read_regular(folder / DESCRIPTION))
    check_monitored(task_name(description))
    if not (folder / FILE).exists():
        return None
    try:
        with np.load(folder / FILE, allow_pickle=False) as stored:
            version, targets, probabilities = (
                stored[name] for name in ("version", "targets", "probabilities")
            )
            earlier = _read_earlier(stored) if f"{PREFIX}trained" in stored else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{FILE} in '{folder}' cannot be read. Promote the model again.") from error
    if int(version) != VERSION:
        raise DataError(
            f"{FILE} in '{folder}' was written by another version of this program. "
            "Promote the model again."
        )
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
