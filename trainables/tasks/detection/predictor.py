"""Objects in raw images, found by a promoted model of detection.

This file is copied with the network, and `base` beside it (`trainables.predictors.base`).

    Predictor(folder).predictions(images)

returns the boxes in each image, float64 (boxes, 6), the surest first: left, top, right and bottom
in pixels of that image, the score from 0 to 1, and the class number. Most of them are false. Those
that are objects at the model's working point are `objects_in(boxes, Predictor(folder).threshold)`.
Images are uint8 (height, width, channels) or, if grey, (height, width), of any height and width: a
list, or one array. `Predictor(folder).table(images)` returns a table with one row for each image:
the number of objects of each class, and `boxes as JSON`.

The folder contains `about.json` (the classes, the size of the network's input, the threshold), this
file, and `network.pt2`, a torch.export program from uint8 images of that size to boxes. An image is
resized as the training images were, and padded with black at its right and lower edge. For a
baseline, which `about.json` names, the folder contains `blob_models.py` and `classifier-1.skops`
and so on instead of the network, and images are not padded.
"""

import colorsys
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trainables.predictors.base import (
    Images,
    Run,
    TaskPredictor,
    as_list,
    load_module,
    load_program,
)

Detections = NDArray[np.float64]
"""The boxes of an image, (boxes, 6): left, top, right, bottom, score, class number."""
Find = Callable[[Images], Detections]
"""Maps one image (height, width, channels) of the size of training images to its boxes."""

BASELINE = "blob_models.py"
"""The file in the folder of a baseline, instead of the network."""
SCORE, CLASS_FOUND = 4, 5
"""The columns of the score and of the class number."""
COLUMN = "boxes as JSON"
"""The title of the table's column with the boxes of an image."""
DEFAULT_SIDE = 320
"""The longer side to which larger images are reduced, unless the training had another one."""
SAME_OBJECT = 0.8
"""The intersection over union above which two boxes are around the same object."""
GOLDEN = 0.61803398875
"""The golden ratio, by which hues of consecutive classes differ most."""


class InputSize(NamedTuple):
    """The size of a network's input, and the longer side to which images are resized before."""

    height: int
    width: int
    side: int | None
    """None if images are only reduced, to `DEFAULT_SIDE`."""


def size_within(width: int, height: int, side: int | None) -> tuple[int, int]:
    """Return the (width, height) of an image whose longer side is resized to `side`.

    With None, an image is only reduced, to `DEFAULT_SIDE`. Training images are resized by this too.
    """
    longer = max(width, height)
    target = min(longer, DEFAULT_SIDE) if side is None else side
    if target == longer:
        return width, height
    return max(1, round(width * target / longer)), max(1, round(height * target / longer))


def size_in(image: Images, size: InputSize) -> tuple[int, int]:
    """Return the (width, height) to which an image is resized, so that it fits the input.

    An image of a shape that the training images did not have may have to be smaller than they were.
    """
    width, height = size_within(image.shape[1], image.shape[0], size.side)
    factor = min(1.0, size.height / height, size.width / width)
    return max(1, int(width * factor)), max(1, int(height * factor))


def detect(run: Run, images: Sequence[Images], size: InputSize, batch: int) -> list[Detections]:
    """Find the objects in images (height, width, channels) of any sizes, `batch` images at once.

    `run` maps images of one size, uint8 (count, height, width, channels), to boxes, (count, boxes,
    6). Rows with the score 0 are no boxes.
    """
    detections: list[Detections] = []
    for first in range(0, len(images), batch):
        some = [images[row] for row in range(first, min(first + batch, len(images)))]
        resized = [_resize(image, size_in(image, size)) for image in some]
        rows_of_images = run(np.stack([pad(image, size) for image in resized]))
        detections += [
            in_pixels(rows, small.shape[:2], image.shape[:2])
            for rows, small, image in zip(rows_of_images, resized, some, strict=True)
        ]
    return detections


def find_each(find: Find, images: Iterable[Images], side: int | None) -> list[Detections]:
    """Find the objects in images of any sizes, of which each is resized to `side`, not padded."""
    detections = []
    for image in images:
        resized = _resize(image, size_within(image.shape[1], image.shape[0], side))
        detections.append(in_pixels(find(resized), resized.shape[:2], image.shape[:2]))
    return detections


def _resize(image: Images, size: tuple[int, int]) -> Images:
    height, width, channels = image.shape
    if size == (width, height):
        return image
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    pixels = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
    return pixels.reshape(*pixels.shape[:2], channels)


def pad(image: Images, size: InputSize) -> Images:
    """Pad an image with black at its right and lower edge; a larger one is cut."""
    padded = np.zeros((size.height, size.width, image.shape[2]), np.uint8)
    inner = image[: size.height, : size.width]
    padded[: inner.shape[0], : inner.shape[1]] = inner
    return padded


def in_pixels(
    rows: NDArray[np.floating[Any]], resized: tuple[int, ...], original: tuple[int, ...]
) -> Detections:
    """Convert boxes in a padded image to the pixels of the original image, the surest first.

    Args:
        rows: the boxes that the network returns for the image, (boxes, 6).
        resized: (height, width) of the image within the padded one.
        original: (height, width) of the original image.
    """
    boxes = rows[rows[:, SCORE] > 0].astype(np.float64)
    boxes = boxes[np.argsort(-boxes[:, SCORE], kind="stable")]
    for axis, length, inner in ((1, original[0], resized[0]), (0, original[1], resized[1])):
        boxes[:, axis:4:2] = boxes[:, axis:4:2].clip(0, inner) * (length / inner)
    is_inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    inside: Detections = boxes[is_inside]
    return inside


class BoxPredictor(TaskPredictor):
    """A model of detection loaded from its folder."""

    def load(self, folder: Path, description: dict[str, Any], run: Run | None) -> None:
        """Load the network or the baseline."""
        self.threshold: float = description["threshold"]
        height, width = description["input"]
        size = InputSize(height, width, description["side"])
        self._detect: Callable[[list[Images]], list[Detections]]
        if "baseline" in description:
            find = load_module(folder / BASELINE).load(folder, description)
            self._detect = lambda arrays: find_each(find, arrays, size.side)
        else:
            network = run or load_program(folder)
            self._detect = lambda arrays: detect(network, arrays, size, self.batch)

    def predictions(self, images: Any) -> list[Detections]:
        """Find the objects in each image.

        Raises:
            ValueError: an image has another form than the training images.
        """
        return self._detect(as_list(images, self.image[2]))

    def row(self, prediction: Detections) -> dict[str, Any]:
        """Return the number of objects of each class in an image, and JSON of their boxes."""
        objects = objects_in(prediction, self.threshold)
        boxes = as_json(objects, self.classes)
        return counts_of(objects, self.classes) | {COLUMN: json.dumps(boxes)}


Predictor = BoxPredictor
"""The name by which the code that loads a model finds the class, whatever the model's task is."""


def objects_in(detections: Detections, threshold: float) -> Detections:
    """Return the boxes that are objects: with at least this score, and one class each."""
    distinct = one_class_each(detections)
    objects: Detections = distinct[distinct[:, SCORE] >= threshold]
    return objects


def one_class_each(detections: Detections) -> Detections:
    """Leave out boxes that are nearly the same as a surer box, mostly of another class.

    A network that is not sure of the class of an object gives it a box for each class.

    Args:
        detections: the surest first.
    """
    x1, y1, x2, y2 = detections[:, :4].T
    areas = (x2 - x1) * (y2 - y1)
    is_distinct = np.ones(len(detections), bool)
    for row in range(len(detections)):
        if is_distinct[row]:
            after = slice(row + 1, None)
            width = np.minimum(x2[row], x2[after]) - np.maximum(x1[row], x1[after])
            height = np.minimum(y2[row], y2[after]) - np.maximum(y1[row], y1[after])
            shared = width.clip(min=0) * height.clip(min=0)
            union = areas[row] + areas[after] - shared
            is_distinct[after] &= shared <= SAME_OBJECT * union
    distinct: Detections = detections[is_distinct]
    return distinct


def counts_of(detections: Detections, classes: Sequence[str]) -> dict[str, int]:
    """Count the boxes of each class, by its name."""
    counts = np.bincount(detections[:, CLASS_FOUND].astype(int), minlength=len(classes))
    return dict(zip(classes, counts.tolist(), strict=True))


def as_json(detections: Detections, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Convert boxes to values for JSON: `box` (left, top, right, bottom), `class` and `score`."""
    return [
        {
            "box": [round(edge, 2) for edge in row[:4]],
            "class": classes[int(row[CLASS_FOUND])],
            "score": round(row[SCORE], 4),
        }
        for row in detections.tolist()
    ]


def class_colour(number: int) -> tuple[int, int, int]:
    """Return the colour of a class in pictures: red, green and blue, 0 to 255."""
    red, green, blue = colorsys.hsv_to_rgb((0.33 + number * GOLDEN) % 1, 0.85, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_boxes(
    image: Images,
    boxes: NDArray[np.floating[Any]],
    numbers: NDArray[np.integer[Any]],
    labels: Sequence[str] = (),
) -> Images:
    """Draw boxes on an image, in the colours of their classes; the result is in colour.

    Args:
        image: uint8 (height, width, channels).
        boxes: left, top, right and bottom of each, (boxes, 4).
        numbers: the class number of each, (boxes,).
        labels: a text for each, drawn above it, or an empty one.
    """
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("RGB")
    pen = ImageDraw.Draw(picture)
    line = max(1, round(max(picture.size) / 300))
    for row, (box, number) in enumerate(zip(boxes.tolist(), numbers.tolist(), strict=True)):
        colour = class_colour(number)
        x1, y1, x2, y2 = box
        pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), None, colour, line)
        if labels and labels[row]:
            # Above the box, so that it does not cover the object, unless there is no room.
            _, _, _, height = pen.textbbox((0, 0), labels[row])
            corner = x1, y1 - height - line if y1 > height + line else y2
            pen.rectangle(pen.textbbox(corner, labels[row]), fill=colour)
            pen.text(corner, labels[row], fill="black")
    drawn: Images = np.asarray(picture)
    return drawn
