"""A classifier loaded from its folder: class names and probabilities of images of any size."""

from typing import Any

import numpy as np

from trainables.errors import ConfigError
from trainables.export.model import JudgedAnswer, Model
from trainables.predictors import base as predictor
from trainables.predictors.base import (
    Images,
    JudgedPredictions,
    Judgement,
    Probabilities,
    judgement_columns,
)


class Classifier(Model):
    """A trained classifier, which converts images to the form of the training images itself."""

    @property
    def image_classes(self) -> list[str]:
        """The classes, one of which an image has."""
        return self.classes

    def rows(self, images: list[Images]) -> list[dict[str, Any]]:
        """Predict images, and return a dict for each, as a row of a table.

        Its keys are the most probable `class`, its `probability`, and the `margin` by which this
        exceeds the second highest probability. A model with promises adds `judgement_columns`.

        Args:
            images: pixels, as returned by `pixels`.
        """
        if not images:
            return []
        (chances, judgements), classes = self.judged(images), self.classes
        ranked = np.sort(
            np.pad(chances, ((0, 0), (1, 0))), axis=1
        )  # padded, for models with a single class
        rows = [
            {"class": classes[best], "probability": float(first), "margin": float(first - second)}
            for best, (second, first) in zip(chances.argmax(axis=1), ranked[:, -2:], strict=True)
        ]
        if judgements is not None:
            columns = judgement_columns([row["class"] for row in rows], judgements)
            for row, values in zip(rows, zip(*columns.values(), strict=True), strict=True):
                row.update(zip(columns, values, strict=True))
        return rows

    def predictions(self, images: Any) -> Probabilities:
        """Return class probabilities for images in the form that `pixels` returns."""
        probabilities: Probabilities = self._predictor.predictions(_stacked(images))
        return probabilities

    def judged(self, images: Any) -> tuple[Probabilities, list[Judgement] | None]:
        """Return class probabilities and judgements; see `Model.judged`."""
        own: Any = self._predictor
        if not own.promises:
            return self.predictions(images), None
        outputs: JudgedPredictions = own.outputs(_stacked(images))
        return outputs.probabilities, outputs.judgements

    def predict(self, images: Any) -> list[str]:
        """Return the name of each image's most probable class.

        Raises:
            ConfigError: the images have none of the accepted forms (see `probabilities`).
        """
        return [self.classes[number] for number in self.probabilities(images).argmax(axis=1)]

    def probabilities(self, images: Any) -> Probabilities:
        """Return the probability of each class, float64 (images, classes).

        Images may have any size. Transparent pixels become white.

        Args:
            images: in any form that `Model.predict` accepts.

        Raises:
            ConfigError: the images have none of these forms, or a file cannot be read
                (`DataError`).
        """
        probabilities: Probabilities = self._predictions(images)
        return probabilities

    def judge(self, images: Any) -> list[JudgedAnswer]:
        """Return an answer for each image, from which a model with promises may abstain.

        Args:
            images: in any form that `predict` accepts.

        Raises:
            ConfigError: the images have none of these forms, or a file cannot be read
                (`DataError`).
        """
        return [
            JudgedAnswer.of(row)
            for rows in self._each_batch(images, self._rows_of_pixels)
            for row in rows
        ]

    def _rows_of_pixels(self, images: Any) -> list[dict[str, Any]]:
        arrays, size = list(self._as_arrays(images)), self.batch
        return [
            row
            for first in range(0, len(arrays), size)
            for row in self.rows([self._fit(image) for image in arrays[first : first + size]])
        ]

    def check(self) -> None:
        """Check that images are answered with finite probabilities of the classes.

        Raises:
            ConfigError: the answers have another shape, or are not finite.
        """
        expected_shape = (2, len(self.classes))
        probabilities = np.asarray(self.predictions(np.zeros((2, *self.image), dtype=np.uint8)))
        if probabilities.shape != expected_shape:
            raise ConfigError(
                f"the model returned probabilities of shape {probabilities.shape} for two images "
                f"instead of {expected_shape}."
            )
        if not np.isfinite(probabilities).all():
            raise ConfigError("the model returned probabilities that are NaN or infinite.")

    def _of_pixels(self, images: Any) -> Probabilities:
        # The predictor converts whole arrays, which is faster than image by image.
        probabilities: Probabilities = self._predictor.predictions(self._as_arrays(images))
        return probabilities

    @property
    def _decoded_size(self) -> tuple[int, int]:
        height, width, _ = self.image
        return width, height

    def _fit(self, image: Images) -> Images:
        fitted: Images = predictor.as_trained(image[None], self.image)[0]
        return fitted

    def _none(self) -> Probabilities:
        return np.empty((0, len(self.classes)))


def _stacked(images: Any) -> Any:
    """Combine a list of images of the same shape to an array; do not copy a single one."""
    if isinstance(images, list) and images:
        return np.stack(images) if len(images) > 1 else images[0][np.newaxis]
    return images
