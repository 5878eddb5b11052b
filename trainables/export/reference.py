"""A classifier's record of its validation images, kept in its folder: new ones are held to it.

Of up to 2,000 of them it has the class, the probabilities and features (`image_features`); the
images themselves are not kept. Networks of folds have together seen every image, so what they say
of them is left out.
"""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.tasks import DEFAULT_TASK
from trainables.datasets.arrays import SIXTEEN_BITS, Dataset, Images
from trainables.datasets.images import ValueRange, decode
from trainables.errors import ConfigError, DataError
from trainables.export import image_features
from trainables.export.image_features import Features, features_of

Probabilities = NDArray[np.float64]

FILE = "reference.npz"
IMAGES = 2000
"""The largest number of images."""
SEED = 20


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
    features: Features
    """Features of each image, (images, features)."""

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
    part = dataset.val.take(sample(dataset))
    known = probabilities if dataset.folds is None else probabilities[:0]
    np.savez_compressed(
        folder / FILE,
        version=image_features.VERSION,
        targets=np.asarray(part.targets).astype(np.int64),
        probabilities=known.astype(np.float32),
        features=features_of(part.images),
    )


def read(folder: Path) -> Reference | None:
    """Return the reference in a classifier's folder.

    None where there is none, as of a model that an earlier version has promoted.

    Raises:
        ConfigError: the model is for another task.
        DataError: it cannot be read, or another version has written it.
    """
    from trainables.export.predictor import ABOUT

    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    if (task := about.get("task", DEFAULT_TASK)) != DEFAULT_TASK:
        raise ConfigError(f"this model is for {task}: only those for classification are watched.")
    if not (folder / FILE).exists():
        return None
    try:
        with np.load(folder / FILE, allow_pickle=False) as kept:
            version, *arrays = (
                kept[name] for name in ("version", "targets", "probabilities", "features")
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{FILE} in '{folder}' cannot be read: promote it again.") from error
    if int(version) != image_features.VERSION:
        raise DataError(f"{FILE} in '{folder}' is of another version: promote it again.")
    targets, probabilities, features = arrays
    return Reference(
        tuple(about["classes"]),
        tuple(about["image"]),
        tuple(about.get("value_range", SIXTEEN_BITS)),
        targets,
        probabilities.astype(np.float64),
        features,
    )
