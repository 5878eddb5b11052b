"""A model loaded from its folder, for predictions from arrays, files and Pillow images.

Images are preprocessed as in training, and predicted by the `Predictor` of the model's task.
"""

import base64
import importlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from trainables.catalog.entries import import_object
from trainables.datasets.images import DEPTHS, decode_opened, open_image, pixels_of
from trainables.disk import read_regular
from trainables.errors import ConfigError, DataError, counted, unknown
from trainables.machine import processors
from trainables.predictors import base as predictor
from trainables.predictors.base import DESCRIPTION, MODES, Images, Judgement, Run, TaskPredictor
from trainables.tasks import TASKS, task_name

INSIDE = Path("artifacts") / "classifier"
"""The path of a classifier's folder within an MLflow model."""


def folder_in(path: Path) -> Path | None:
    """Find the classifier's folder: `path` or `INSIDE` below it; None if there is none."""
    return next(
        (folder for folder in (path, path / INSIDE) if (folder / DESCRIPTION).is_file()), None
    )


@dataclass(frozen=True)
class Answer:
    """A model's answer on one image, in the form in which it leaves the program."""

    row: dict[str, Any]
    """Plain values, as a row of a table."""
    files: dict[str, bytes] = field(default_factory=dict)
    """The contents of files, such as a mask, by the ending of their names."""
    record: Any = None
    """Plain values for files about all images (`Model.joint_files`); None for none."""


@dataclass(frozen=True)
class JudgedAnswer:
    """The answer of a classifier on an image, and how far it can be relied on.

    A model without promises answers every image, and its `set` is None.
    """

    answer: str
    """The class; empty if the model abstains."""
    abstained: bool
    """True if the model abstains."""
    reason: str
    """The reason for which it abstains, `unlike` or `uncertain`; empty if it answers."""
    set: list[str] | None
    """The possible classes, the most probable first, which may be none; None without this promise
    (`--coverage`)."""
    label: str
    """The most probable class, also if the model abstains."""
    probability: float
    """The probability of this class."""

    @classmethod
    def of(cls, row: dict[str, Any]) -> Self:
        """Create an answer from a row of `Classifier.rows`."""
        labels = row.get("set")
        return cls(
            answer=row.get("answer", row["class"]),
            abstained=row.get("abstained", False),
            reason=row.get("reason", ""),
            set=None if labels is None else json.loads(labels),
            label=row["class"],
            probability=row["probability"],
        )


def model_class(folder: Path) -> "type[Model]":
    """Return the class for the model in a folder, `Model` or a subclass of it.

    Raises:
        ConfigError: the model's task is unknown in this version.
    """
    return class_of_task(task_name(json.loads(read_regular(folder / DESCRIPTION))))


def class_of_task(name: str) -> "type[Model]":
    """Return the class for the models of a task.

    Raises:
        ConfigError: the task is unknown in this version.
    """
    if name not in TASKS:
        raise ConfigError(unknown("task", name, TASKS))
    cls: type[Model] = import_object(TASKS[name].model)
    return cls


class Model:
    """A trained model, ready for predictions.

    The defaults here are for a task whose predictions refer to the pixels of an image: images are
    not resized. `TaskEntry.model` names the class of each task; `model_class` finds it.
    """

    has_files = False
    """True if answers contain files (`answer`)."""

    def __init__(self, folder: Path, source: str, run: Run | None = None) -> None:
        """Load the model in a folder, which is not needed afterwards.

        Args:
            folder: the model's folder.
            source: the model's name in messages.
            run: computes the network's outputs instead of `network.pt2`.
        """
        self.source = source
        description = json.loads(read_regular(folder / DESCRIPTION))
        self.task = TASKS[task_name(description)]
        code = importlib.import_module(self.task.predictor)
        self._predictor: TaskPredictor = code.Predictor(folder, run)
        self._any_size = bool(description.get("any_size"))
        self._levels: tuple[float, float] | None = (
            tuple(description["value_range"]) if "value_range" in description else None
        )

    @property
    def classes(self) -> list[str]:
        """The names of the classes; empty if the task has none."""
        return list(self._predictor.classes)

    @property
    def image_classes(self) -> list[str]:
        """The names of the classes of which each image has one; empty for other tasks."""
        return []

    @property
    def batch(self) -> int:
        """The maximum number of images in a batch."""
        return self._predictor.batch

    @property
    def signature(self) -> tuple[Any, ...]:
        """The properties that must be equal for one model to replace another."""
        own = self._predictor
        return self.task.name, own.image, self._any_size, self._levels, tuple(own.classes)

    @property
    def image(self) -> tuple[int, int, int]:
        """The shape of the training images, (height, width, channels), with 1 or 3 channels."""
        return self._predictor.image

    def rows(self, images: list[Images]) -> list[dict[str, Any]]:
        """Predict images, and return a dict for each, as a row of a table.

        Args:
            images: pixels, as returned by `pixels`.
        """
        rows = self._predictor.rows(images) if images else []
        return [
            {
                title: as_text(value) if isinstance(value, bytes) else value
                for title, value in row.items()
            }
            for row in rows
        ]

    def answers(self, images: list[Images]) -> list[Answer]:
        """Predict images, and return an answer for each: its row, and files if the task has any.

        Args:
            images: pixels, as returned by `pixels`.
        """
        if not self.has_files:
            return [Answer(row) for row in self.rows(images)]
        return [self.answer(*pair) for pair in zip(images, self.predictions(images), strict=True)]

    def answer(self, image: Images, prediction: Any) -> Answer:
        """Return the answer with files for an image, if the task `has_files`."""
        raise NotImplementedError

    def joint_files(self, records: dict[str, Any]) -> dict[str, bytes]:
        """Return the contents of files about all images, by their names.

        Args:
            records: the record of each image's answer, by the image's path.
        """
        return {}

    def plain(self, prediction: Any) -> Any:
        """Convert a prediction to a value for JSON, where it is not an array of numbers."""
        return prediction

    @classmethod
    def drawing(cls, plain: Any) -> Callable[[Images, int], Images] | None:
        """Return a function that draws a prediction, as JSON, on its image; None if none can.

        Its arguments are the image (height, width, channels), and the factor by which it was
        reduced.
        """
        return None

    def pixels(self, path: str | PathLike[str]) -> Images:
        """Decode a file like the training images, to uint8 (height, width, channels).

        This method is thread-safe.

        Raises:
            ConfigError: the file does not exist, or the model does not accept this image.
        """
        return self._decode_file(Path(path))

    def decoded(self, image: Image.Image, name: str = "") -> Images:
        """Decode an image that `open_image` has opened, like `pixels`.

        `name` is the image's name in messages.

        Raises:
            DataError: the image is damaged, or has more than 8 bits, unlike the training images.
            ConfigError: the model does not accept this image.
        """
        levels = self._range_of(image.mode, name or "the image")
        try:
            pixels = decode_opened(image, self._decoded_size, MODES[self.image[2]], levels)[0]
        except DataError as error:
            raise DataError(f"{name}: {error}." if name else f"{error}.") from error
        return self._fit(pixels)

    def accepted(self, images: Any) -> list[Images]:
        """Convert arrays in any form that `predict` accepts to the form returned by `pixels`.

        Raises:
            ConfigError: the images have another form.
        """
        return [self._fit(image) for image in self._as_arrays(images)]

    def predictions(self, images: Any) -> Any:
        """Return the task's predictions for images in the form that `pixels` returns."""
        return self._predictor.predictions(images)

    def judged(self, images: Any) -> tuple[Any, list[Judgement] | None]:
        """Return predictions as `predictions` does, and the judgement of each.

        The judgements are None for a model without promises.
        """
        return self.predictions(images), None

    def predict(self, images: Any) -> Any:
        """Return the task's predictions: an array, or a list with one element for each image.

        Args:
            images: uint8 pixels, (count, height, width, channels) or, if grey, (count, height,
                width); or a list of images, each of them pixels (height, width, channels) or
                (height, width), the path of a file, or a Pillow image; or a single one of these.
                Files and Pillow images are rotated according to their EXIF tag.

        Raises:
            ConfigError: the images have none of these forms, or a file cannot be read
                (`DataError`).
        """
        return self._predictions(images)

    def probabilities(self, images: Any) -> Any:
        """Return the probability of each class, for a classifier.

        Raises:
            ConfigError: the model does not predict classes of images.
        """
        raise ConfigError(
            f"a model for {self.task.title} does not return class probabilities of images. "
            "Use predict()."
        )

    def judge(self, images: Any) -> list[JudgedAnswer]:
        """Return an answer for each image, from which a classifier with promises may abstain.

        Raises:
            ConfigError: the model does not predict classes of images.
        """
        raise ConfigError(
            f"a model for {self.task.title} has no classes as answers, from which it could "
            "abstain. Use predict()."
        )

    def check(self) -> None:
        """Check that the model predicts two images without a flaw (`flaw_of`).

        Raises:
            ConfigError: there is not one prediction for each image, or one has a flaw.
        """
        images = [np.zeros(self.image, np.uint8)] * 2
        predictions = self.predictions(images)
        if flaw := next(filter(None, map(self.flaw_of, predictions)), ""):
            raise ConfigError(f"the model returned {flaw}.")
        if (count := len(predictions)) != len(images):
            raise ConfigError(f"the model returned {counted(count, 'prediction')} for two images.")

    def flaw_of(self, prediction: Any) -> str:
        """Return the flaw of a prediction of an image of the training's size; empty without any.

        It continues the sentence `the model returned ...`.
        """
        return ""

    def _predictions(self, images: Any) -> Any:
        """Return the task's predictions: an array, or a list with one element for each image."""
        batches = self._each_batch(images, self._of_pixels)
        if not batches:
            return self._none()
        if all(isinstance(some, np.ndarray) for some in batches):
            return np.concatenate(batches) if len(batches) > 1 else batches[0]
        return [prediction for some in batches for prediction in some]

    def _each_batch(self, images: Any, apply: Callable[[Any], Any]) -> list[Any]:
        """Apply a function of arrays to images in any form that `predict` accepts, by batches."""
        if isinstance(images, np.ndarray) and images.dtype != object:
            return [apply(images[None] if _is_single(images) else images)]
        if isinstance(images, str | PathLike | Image.Image):
            images = [images]
        if isinstance(images, bytes) or not isinstance(images, Iterable):
            return [apply(images)]  # raises the error that lists the accepted forms
        sources, size = list(images), self._predictor.batch
        # Files are decoded batch by batch: there may be many, and they are large before resizing.
        return [
            apply([self._pixels(image) for image in sources[first : first + size]])
            for first in range(0, len(sources), size)
        ]

    def _of_pixels(self, images: Any) -> Any:
        arrays = self._as_arrays(images)
        for image in arrays:
            self._fit(image)
        return self._predictor.predictions(arrays)

    def _as_arrays(self, images: Any) -> Any:
        """Convert images by `predictor.as_images`."""
        try:
            return predictor.as_images(images)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    @property
    def _decoded_size(self) -> tuple[int, int] | None:
        """The (width, height) to which files are resized; None for their own size."""
        return None

    def _none(self) -> Any:
        """Return the predictions of no images."""
        return []

    def _fit(self, image: Images) -> Images:
        """Check that an image (height, width, channels) fits the model, and return it.

        Its channels must be those of the training images and, unless the model accepts any size,
        its height and width too. Images are not resized here, because the predictions refer to
        their pixels.

        Raises:
            ConfigError: the image does not fit.
        """
        trained, shape = self._predictor.image, image.shape
        if shape[2] != trained[2] or not (self._any_size or shape == trained):
            size = "" if self._any_size else f"{trained[0]} x {trained[1]} pixels and "
            raise ConfigError(
                f"images must have {size}{counted(trained[2], 'channel')}, as the training images "
                f"did (got {shape[0]} x {shape[1]} pixels and {counted(shape[2], 'channel')})."
            )
        return image

    def _pixels(self, image: Any) -> Any:
        """Convert a file or a Pillow image to pixels in the model's form; return arrays unchanged.

        Files are decoded like those of the training, large JPEGs at a reduced size.
        """
        if isinstance(image, str | PathLike):
            return self._decode_file(Path(image))
        if isinstance(image, Image.Image):
            levels = self._range_of(image.mode, "an image")
            return self._fit(pixels_of(image, MODES[self.image[2]], levels))
        return image

    def _decode_file(self, path: Path) -> Images:
        if not path.is_file():
            problem = "is a folder. Pass the files in it" if path.is_dir() else "is not a file"
            raise ConfigError(f"'{path}' {problem}.")
        try:
            image = open_image(path)
        except DataError as error:
            raise DataError(f"'{path}': {error}.") from error
        with image:
            return self.decoded(image, f"'{path}'")

    def _range_of(self, mode: str, image: str) -> tuple[float, float]:
        """Return the pixel values that are mapped to 0 and 255; (0, 255) for images of 8 bits.

        Raises:
            DataError: the image has more than 8 bits, but the training images had 8.
        """
        if mode in DEPTHS and self._levels is None:
            raise DataError(
                f"{image} has {DEPTHS[mode]} values, but the training images had 8 bits. Scale the "
                "values to 0 to 255 as in the training images, and save them with 8 bits, or pass "
                "a uint8 array."
            )
        return self._levels or (0, 255)

    def __repr__(self) -> str:
        classes, (height, width, channels) = self.classes, self._predictor.image
        colour = "grey" if channels == 1 else "colour"
        facts = f"{len(classes)} classes, " if classes else ""
        if not self.task.is_implied:
            facts = f"{self.task.title}, {facts}"
        return f"<model of {self.source}: {facts}trained on {colour} images of {height} x {width}>"


def as_text(content: bytes) -> str:
    """Encode bytes in base64, as MLflow's server encodes those in a table."""
    return base64.b64encode(content).decode()


def _is_single(images: Images) -> bool:
    """True if an array is a single image: (height, width), or (height, width, channels)."""
    return images.ndim == 2 or (images.ndim == 3 and images.shape[-1] <= predictor.CHANNELS)


AHEAD = 2
"""The maximum number of decoded batches that wait for the model."""
MOST_AT_ONCE = 64
"""The maximum batch size.

A model may accept larger batches of small images. But decoding and computing overlap only if there
are several batches.
"""


@dataclass(frozen=True)
class FileAnswer:
    """The model's prediction for a file, or the reason why the file could not be read."""

    file: str
    values: dict[str, Any] = field(default_factory=dict)
    """A row of `Model.rows`; empty if the file could not be read."""
    files: dict[str, bytes] = field(default_factory=dict)
    """The contents of files that belong to the answer (`Answer.files`)."""
    record: Any = None
    """The values for files about all images (`Answer.record`)."""
    error: str = ""
    """The reason why the file could not be read; empty if it was read."""


def answer_files(
    model: Model, files: Iterable[str], threads: int | None = None
) -> Iterator[FileAnswer]:
    """Yield the model's prediction for each file, in the order of `files`.

    `files` is read lazily, so that it may have any length. For a file that cannot be read, the
    reason is yielded instead (`FileAnswer.error`).

    Args:
        model: the model.
        files: the paths of image files.
        threads: the number of threads that decode (default: the number of processors).
    """
    source, waiting = iter(files), deque[tuple[str, Future[Any]]]()
    size = min(model.batch, MOST_AT_ONCE)
    pool = ThreadPoolExecutor(threads or processors())

    def decode_ahead() -> None:
        while len(waiting) < AHEAD * size and (file := next(source, None)) is not None:
            waiting.append((file, pool.submit(model.pixels, file)))

    try:
        decode_ahead()
        while waiting:
            count = min(size, len(waiting))
            decoded = [_fetch_pixels(*waiting.popleft()) for _ in range(count)]
            decode_ahead()  # the threads decode while the model computes
            yield from _answer_batch(model, decoded)
    finally:
        pool.shutdown(cancel_futures=True)


def _fetch_pixels(file: str, pixels: "Future[Any]") -> tuple[str, Any, str]:
    """Wait for the pixels of a file.

    Returns:
        The file, its pixels (None if it cannot be read), and the reason (empty if it can).
    """
    try:
        return file, pixels.result(), ""
    except (ConfigError, OSError) as error:
        # The reason may begin with the file's name, which is printed anyway.
        return file, None, str(error).removeprefix(f"'{file}'").lstrip(": ").rstrip(".")


def _answer_batch(model: Model, decoded: list[tuple[str, Any, str]]) -> Iterator[FileAnswer]:
    answers = iter(model.answers([pixels for _, pixels, error in decoded if not error]))
    for file, _, error in decoded:
        if error:
            yield FileAnswer(file, error=error)
        else:
            answer = next(answers)
            yield FileAnswer(file, answer.row, answer.files, answer.record)
