"""A model in a folder, for images as people have them: arrays, files, Pillow's images.

The images are treated as `predictor` treats them, whose way from pixels to probabilities this is.
"""

import importlib
import json
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from trainables.catalog.tasks import CLASSIFICATION, DEFAULT_TASK, TASKS
from trainables.datasets.images import DEPTHS, decode_opened, open_image, pixels_of
from trainables.disk import read_regular
from trainables.errors import ConfigError, DataError, unknown
from trainables.export import predictor
from trainables.export.predictor import ABOUT, MODES, Images, Probabilities

INSIDE = Path("artifacts") / "classifier"
"""The place of a classifier's folder in a model's folder of MLflow."""


def folder_in(path: Path) -> Path | None:
    """Return the classifier's folder: this one, or the one in this model's; None if it is none."""
    return next((one for one in (path, path / INSIDE) if (one / ABOUT).is_file()), None)


class Predictor(Protocol):
    """The class of that name in a task's stand-alone file (`TaskEntry.predictor`).

    It is made from a model's folder, in which `about.json` says what `Task.about` gave it.
    """

    classes: list[str]
    """The names of the classes; empty where there are none."""
    image: tuple[int, int, int]
    """(height, width, channels: 1 or 3) of the images that it was trained with."""
    batch: int
    """The number of images that are predicted at once."""

    def predictions(self, images: Any) -> Any:
        """Return what the task predicts of uint8 images, one array or a list of arrays."""

    def table(self, images: Any) -> Any:
        """Return the same as a table (pandas), one row for each image."""


class Model:
    """A trained model, ready for images."""

    def __init__(self, folder: Path, source: str, made: Predictor | None = None) -> None:
        """Read the model in a folder, which is not needed afterwards.

        Args:
            folder: the model's.
            source: what it is called in texts.
            made: what predicts, if not the class in the folder's own code.

        Raises:
            ConfigError: it is for a task that this version does not know.
        """
        self.source = source
        about = json.loads(read_regular(folder / ABOUT))
        name = about.get("task", DEFAULT_TASK)
        if name not in TASKS:
            raise ConfigError(unknown("task", name, TASKS))
        self.task = TASKS[name]
        self._predictor: Predictor = made or importlib.import_module(self.task.predictor).Predictor(
            folder
        )
        self._any_size = bool(about.get("any_size"))
        self._levels: tuple[float, float] | None = (
            tuple(about["value_range"]) if "value_range" in about else None
        )

    @property
    def classes(self) -> list[str]:
        """The names of the classes, in the order of the columns of `probabilities`."""
        return list(self._predictor.classes)

    @property
    def batch(self) -> int:
        """The number of images that are predicted at once."""
        return self._predictor.batch

    @property
    def signature(self) -> tuple[Any, ...]:
        """The facts that have to be equal of two models for one to take the other's place."""
        told = self._predictor
        return self.task.name, told.image, self._any_size, self._levels, tuple(told.classes)

    @property
    def image(self) -> tuple[int, int, int]:
        """(height, width, channels: 1 or 3) of the images that it was trained with."""
        return self._predictor.image

    def rows(self, images: list[Images]) -> list[dict[str, Any]]:
        """Return what the model says of images as it tells it in a table: a row each, by column.

        Of classification it is the most probable `class`, its `probability`, and the `margin` by
        which that is above the next one's.

        Args:
            images: pixels, as `pixels` gives them.
        """
        if not images:
            return []
        if self.task is not CLASSIFICATION:
            found: list[dict[str, Any]] = self._predictor.table(images).to_dict("records")
            return found
        chances, classes = self._predictor.predictions(images), self.classes
        ranked = np.sort(np.pad(chances, ((0, 0), (1, 0))), axis=1)  # also where there is one class
        return [
            {"class": classes[best], "probability": float(first), "margin": float(first - second)}
            for best, (second, first) in zip(chances.argmax(axis=1), ranked[:, -2:], strict=True)
        ]

    def pixels(self, path: str | PathLike[str]) -> Images:
        """Return a file's pixels as those of the training were decoded, (height, width, channels).

        Several threads may call it at once.

        Raises:
            ConfigError: there is no such file, or it is no image that this model takes.
        """
        found: Images = self._pixels(path)
        if self.task is not CLASSIFICATION:
            self._check(found.shape)
        return found

    def decoded(self, image: Image.Image, name: str = "") -> Images:
        """Return the pixels of an image that `open_image` has opened, as `pixels` does.

        `name` is what it is called in texts.

        Raises:
            DataError: it is damaged, or has more than 8 bits and those of the training had not.
            ConfigError: this model takes no such image.
        """
        levels = self._range_of(image.mode, name or "the image")
        height, width, channels = self.image
        size = (width, height) if self.task is CLASSIFICATION else None
        try:
            made = decode_opened(image, size, MODES[channels], levels)[0]
        except DataError as error:
            raise DataError(f"{name}: {error}." if name else f"{error}.") from error
        if self.task is not CLASSIFICATION:
            self._check(made.shape)
        return made

    def accepted(self, images: Any) -> list[Images]:
        """Return pixels as `pixels` does, from arrays in any form that `probabilities` takes.

        Raises:
            ConfigError: these are no such images.
        """
        given = self._checked(images)
        if self.task is not CLASSIFICATION:
            return list(given)
        return [predictor.as_trained(image[None], self.image)[0] for image in given]

    def predictions(self, images: Any) -> Any:
        """Return what the task predicts of images, whose pixels are as `pixels` gives them."""
        return self._predictor.predictions(images)

    def predict(self, images: Any) -> Any:
        """Return the name of each image's most probable class.

        For another task than classification it is what that predicts of each image.

        Raises:
            ConfigError: these are no such images (see `probabilities`).
        """
        if self.task is not CLASSIFICATION:
            return self._predictions(images)
        classes = self._predictor.classes
        return [classes[number] for number in self.probabilities(images).argmax(axis=1)]

    def probabilities(self, images: Any) -> Probabilities:
        """Return the probability of each class, float64 (images, classes).

        Images may have any size. What is transparent is laid onto white.

        Args:
            images: uint8 pixels, (count, height, width, channels) or, if grey, (count, height,
                width); or a list of images, each of them pixels (height, width, channels) or
                (height, width), the path of a file, or an image of Pillow; or one of these alone.
                Files and images of Pillow are turned as their EXIF tag says.

        Raises:
            ConfigError: these are no such images, or a file cannot be read (`DataError`); or the
                model is for another task than classification.
        """
        if self.task is not CLASSIFICATION:
            raise ConfigError(
                f"a model for {self.task.title} gives no probabilities of images. Use predict."
            )
        found: Probabilities = self._predictions(images)
        return found

    def _predictions(self, images: Any) -> Any:
        """Return what the task predicts of images: an array, or a list with one for each."""
        if isinstance(images, np.ndarray) and images.dtype != object:
            return self._of_pixels(images[None] if _is_one(images) else images)
        if isinstance(images, str | PathLike | Image.Image):
            images = [images]
        if isinstance(images, bytes) or not isinstance(images, Iterable):
            return self._of_pixels(images)  # which says what it takes
        given, size = list(images), self._predictor.batch
        # A batch at a time: files are many, and large before they are resized.
        found = [
            self._of_pixels([self._pixels(image) for image in given[first : first + size]])
            for first in range(0, len(given), size)
        ]
        if not found:
            return [] if self.task is not CLASSIFICATION else np.empty((0, len(self.classes)))
        if all(isinstance(some, np.ndarray) for some in found):
            return np.concatenate(found)
        return [one for some in found for one in some]

    def _of_pixels(self, images: Any) -> Any:
        return self._predictor.predictions(self._checked(images))

    def _checked(self, images: Any) -> Any:
        """Return arrays as `predictor.as_images` does, if this model takes them."""
        try:
            given = predictor.as_images(images)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        if self.task is not CLASSIFICATION:
            for image in given:
                self._check(image.shape)
        return given

    def _check(self, shape: tuple[int, ...]) -> None:
        """Check that an image of this shape, (height, width, channels), is as in the training.

        Raises:
            ConfigError: it is not: what is learned of an image's parts is not resized with it.
        """
        wanted = self._predictor.image
        if shape[2] != wanted[2] or not (self._any_size or shape == wanted):
            size = "any size" if self._any_size else f"{wanted[0]} x {wanted[1]} pixels"
            raise ConfigError(
                f"images must be of {size} with {wanted[2]} channels, as in the training "
                f"(got {shape[0]} x {shape[1]} with {shape[2]})."
            )

    def _pixels(self, image: Any) -> Any:
        """Return an image's pixels; those of files and of Pillow's images in the model's form.

        Files are decoded as those of the training were, large JPEGs at a fraction of their size.
        """
        if isinstance(image, str | PathLike):
            made = self._decoded(Path(image))
        elif isinstance(image, Image.Image):
            made = pixels_of(image, MODES[self.image[2]], self._range_of(image.mode, "an image"))
        else:
            return image
        if self.task is not CLASSIFICATION:
            return made
        return predictor.as_trained(made[None], self._predictor.image)[0]

    def _decoded(self, path: Path) -> Images:
        if not path.is_file():
            kind = "a folder: name the files in it" if path.is_dir() else "no file"
            raise ConfigError(f"'{path}' is {kind}.")
        try:
            image = open_image(path)
        except DataError as error:
            raise DataError(f"'{path}': {error}.") from error
        with image:
            return self.decoded(image, f"'{path}'")

    def _range_of(self, mode: str, image: str) -> tuple[float, float]:
        """Return the values that become 0 and 255 in images of more than 8 bits.

        Raises:
            DataError: an image of this mode has more than 8 bits, and no image of the training had.
        """
        if mode in DEPTHS and self._levels is None:
            raise DataError(
                f"{image} has {DEPTHS[mode]} values, and the images of the training had 8 bits. "
                "Bring its values to 0 to 255 as theirs were, and give them as a uint8 array."
            )
        return self._levels or (0, 255)

    def __repr__(self) -> str:
        classes, (height, width, channels) = self.classes, self._predictor.image
        colour = "grey" if channels == 1 else "colour"
        told = f"{len(classes)} classes, " if classes else ""
        if self.task is not CLASSIFICATION:
            told = f"{self.task.title}, {told}"
        return f"<model of {self.source}: {told}trained on {colour} images of {height} x {width}>"


def _is_one(images: Images) -> bool:
    """Return whether an array is one image: (height, width), or with an axis of channels."""
    return images.ndim == 2 or (images.ndim == 3 and images.shape[-1] <= predictor.CHANNELS)
