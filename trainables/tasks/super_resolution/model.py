"""A model of super-resolution loaded from its folder: enlarged images of any size."""

import base64
from pathlib import Path
from typing import Any

import numpy as np

from trainables.errors import ConfigError
from trainables.export.model import Answer, Model
from trainables.export.sessions import open_session
from trainables.predictors.base import ONNX, Images, encode_png
from trainables.tasks.super_resolution.predictor import EnlargingPredictor, row_of

MOST_PIXELS = 150_000_000
"""The maximum number of pixels of an enlarged image; Pillow refuses to open larger ones."""


class OnnxEnlarger(EnlargingPredictor):
    """A network of super-resolution that runs in ONNX Runtime, without torch and pandas."""

    def __init__(self, folder: Path, threads: int) -> None:
        session = open_session(folder / ONNX, threads)
        super().__init__(folder, lambda tiles: session.run(None, {"images": tiles})[0])


class Enlarger(Model):
    """A trained model of super-resolution."""

    onnx_predictor = OnnxEnlarger
    has_files = True

    @property
    def scale(self) -> int:
        """The factor by which height and width of images are enlarged."""
        scale: int = self._predictor.scale  # type: ignore[attr-defined]
        return scale

    @property
    def signature(self) -> tuple[Any, ...]:
        """The properties that must be equal for one model to replace another."""
        return (*super().signature, self.scale)

    def _fit(self, image: Images) -> Images:
        """Check that an image fits the model, and that the enlarged one is not too large.

        Raises:
            ConfigError: it does not fit, or is too large.
        """
        fitting, pixels = super()._fit(image), image.shape[0] * image.shape[1] * self.scale**2
        if pixels > MOST_PIXELS:
            raise ConfigError(
                f"an image of {image.shape[1]} x {image.shape[0]} pixels would have "
                f"{pixels // 1_000_000} million when it is enlarged {self.scale} times; at most "
                f"{MOST_PIXELS // 1_000_000} million are allowed. Cut it into parts."
            )
        return fitting

    def check(self) -> None:
        """Check that two images are enlarged by the model's scale.

        Raises:
            ConfigError: an enlarged image has another shape.
        """
        height, width, channels = self.image
        expected = self.scale * height, self.scale * width, channels
        for enlarged in self.predictions([np.zeros(self.image, np.uint8)] * 2):
            if enlarged.shape != expected:
                raise ConfigError(
                    f"the model returned an image of shape {enlarged.shape}. Expected {expected}."
                )

    def answers(self, images: list[Images]) -> list[Answer]:
        """Enlarge images: the row has the new size, and the file is the enlarged image as PNG."""
        return [
            Answer(row_of(enlarged), {f"_x{self.scale}.png": encode_png(enlarged)})
            for enlarged in self.predictions(images)
        ]

    def rows(self, images: list[Images]) -> list[dict[str, Any]]:
        """Return the rows of the predictor's table; images are text, as in `plain`."""
        return [
            row_of(enlarged) | {"image": as_text(enlarged)} for enlarged in self.predictions(images)
        ]

    def plain(self, prediction: Images) -> Any:
        """Return an enlarged image for JSON: its PNG in base64, and its size."""
        return {"image": as_text(prediction), **row_of(prediction)}


def as_text(image: Images) -> str:
    """Encode an image as PNG in base64, as MLflow's server encodes the bytes in a table."""
    return base64.b64encode(encode_png(image)).decode()
